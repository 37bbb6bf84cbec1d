from .data_preprocessor import InstanceMapDataPreprocessor
from .decode_heads import EmbeddingFCNHead, EmbeddingHead, EmbeddingMixin, EmbeddingUPerHead
from .groupers import CenterGrouping, ClassGrouping, Grouper
from .losses import ClassDiceLoss, DiscriminativeLoss, WeightedCrossEntropyLoss
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
    'SilhouetteScorer',
    'WeightedCrossEntropyLoss',
    'resize_labels',
]
