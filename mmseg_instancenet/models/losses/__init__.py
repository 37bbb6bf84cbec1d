from .balanced_logistic import BalancedLogisticLoss, balanced_logistic
from .class_losses import ClassDiceLoss, WeightedCrossEntropyLoss
from .discriminative import DiscriminativeLoss, discriminative_terms
from .embedding_margins import EmbeddingMargins
from .instances import BACKGROUND_INSTANCE, IGNORED_CLASS, IGNORED_INSTANCE, number_instances
from .margins import asymptotic_margin, feasible_margin, margin_lower_bound
from .recurrent_loss import RecurrentLoss
from .spherical_pair import SphericalPairLoss, spherical_pair_terms

__all__ = [
    'BACKGROUND_INSTANCE',
    'IGNORED_CLASS',
    'IGNORED_INSTANCE',
    'BalancedLogisticLoss',
    'ClassDiceLoss',
    'DiscriminativeLoss',
    'EmbeddingMargins',
    'RecurrentLoss',
    'SphericalPairLoss',
    'WeightedCrossEntropyLoss',
    'asymptotic_margin',
    'balanced_logistic',
    'discriminative_terms',
    'feasible_margin',
    'margin_lower_bound',
    'number_instances',
    'spherical_pair_terms',
]
