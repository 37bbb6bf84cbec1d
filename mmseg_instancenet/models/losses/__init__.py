from .class_losses import ClassDiceLoss, WeightedCrossEntropyLoss
from .discriminative import DiscriminativeLoss, discriminative_terms
from .instances import BACKGROUND_INSTANCE, IGNORED_CLASS, IGNORED_INSTANCE, number_instances

__all__ = [
    'BACKGROUND_INSTANCE',
    'IGNORED_CLASS',
    'IGNORED_INSTANCE',
    'ClassDiceLoss',
    'DiscriminativeLoss',
    'WeightedCrossEntropyLoss',
    'discriminative_terms',
    'number_instances',
]
