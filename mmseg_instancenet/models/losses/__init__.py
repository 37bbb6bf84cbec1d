from .class_losses import BalancedLogisticLoss, ClassDiceLoss, WeightedCrossEntropyLoss, balanced_logistic
from .discriminative import DiscriminativeLoss, discriminative_terms
from .instance_numbering import EmbeddingLoss, number_instances
from .margins import asymptotic_margin, feasible_margin, margin_lower_bound
from .recurrent import RecurrentLoss
from .spherical_pair import SphericalPairLoss, spherical_pair_terms

__all__ = [
    'BalancedLogisticLoss',
    'ClassDiceLoss',
    'DiscriminativeLoss',
    'EmbeddingLoss',
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
