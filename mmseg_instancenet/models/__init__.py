from .data_preprocessor import InstanceMapDataPreprocessor
from .decode_heads import EmbeddingFCNHead, EmbeddingHead, EmbeddingMixin, EmbeddingUPerHead
from .groupers import CenterGrouping, ClassGrouping, Grouper, MeanShiftGrouping
from .losses import ClassDiceLoss, DiscriminativeLoss, RecurrentLoss, SphericalPairLoss, WeightedCrossEntropyLoss
from .necks import FineToCoarse
from .resize import resize_labels
from .scorers import SilhouetteScorer
from .segmentors import EmbeddingSegmentor, EmbeddingTTAModel

__all__ = [
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
    'RecurrentLoss',
    'SilhouetteScorer',
    'SphericalPairLoss',
    'WeightedCrossEntropyLoss',
    'resize_labels',
]
