from .bsds import BSDSDataset
from .cached_pipeline import CachedPipeline
from .coco import CocoInstanceDataset, DigitsDataset
from .label_image_dataset import LabelImageDataset
from .transforms import LoadInstanceIds, MasksToMaps, PackInstanceMaps
from .voc import VOCInstanceDataset

__all__ = [
    'BSDSDataset',
    'CachedPipeline',
    'CocoInstanceDataset',
    'DigitsDataset',
    'LabelImageDataset',
    'LoadInstanceIds',
    'MasksToMaps',
    'PackInstanceMaps',
    'VOCInstanceDataset',
]
