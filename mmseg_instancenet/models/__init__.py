from .data_preprocessor import InstanceMapDataPreprocessor
from .decode_heads import BoundaryHead, EmbeddingFCNHead, EmbeddingHead, EmbeddingMixin, EmbeddingUPerHead
from .groupers import CenterGrouping, ClassGrouping, Grouper, MeanShiftGrouping, SeedGrouping
from .losses import (
    BalancedLogisticLoss,
    ClassDiceLoss,
    DiscriminativeLoss,
    RecurrentLoss,
    SoftMaskLoss,
    SphericalPairLoss,
    WeightedCrossEntropyLoss,
)
from .necks import FineToCoarse
from .scorers import ScoreRegressor, SeedScorer, SilhouetteScorer
from .segmentors import BoundarySegmentor, EmbeddingSegmentor, EmbeddingTTAModel, ProposalSegmentor

__all__ = [
    'BalancedLogisticLoss',
    'BoundaryHead',
    'BoundarySegmentor',
    'CenterGrouping',
    'ClassDiceLoss',
    'ClassGrouping',
    'DiscriminativeLoss',
    'EmbeddingFCNHead',
    'EmbeddingHead',
    'EmbeddingMixin',
    'EmbeddingSegmentor',
    'EmbeddingTTAModel',
    'EmbeddingUPerHead',
    'FineToCoarse',
    'Grouper',
    'InstanceMapDataPreprocessor',
    'MeanShiftGrouping',
    'ProposalSegmentor',
    'RecurrentLoss',
    'ScoreRegressor',
    'SeedGrouping',
    'SeedScorer',
    'SilhouetteScorer',
    'SoftMaskLoss',
    'SphericalPairLoss',
    'WeightedCrossEntropyLoss',
]
