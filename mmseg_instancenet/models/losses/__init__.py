from .class_losses import BalancedLogisticLoss, ClassDiceLoss, WeightedCrossEntropyLoss, balanced_logistic
from .discriminative import DiscriminativeLoss, discriminative_terms
from .instance_numbering import EmbeddingLoss, number_instances
from .margins import asymptotic_margin, feasible_margin, margin_lower_bound
from .recurrent import RecurrentLoss
from .soft_mask import SoftMaskLoss, soft_mask_terms
from .spherical_pair import SphericalPairLoss, spherical_pair_terms

__all__ = [
    'BalancedLogisticLoss',
    'ClassDiceLoss',
    'DiscriminativeLoss',
    'EmbeddingLoss',
    'RecurrentLoss',
    'SoftMaskLoss',
    'SphericalPairLoss',
    'WeightedCrossEntropyLoss',
    'asymptotic_margin',
    'balanced_logistic',
    'discriminative_terms',
    'feasible_margin',
    'margin_lower_bound',
    'number_instances',
    'soft_mask_terms',
    'spherical_pair_terms',
]
