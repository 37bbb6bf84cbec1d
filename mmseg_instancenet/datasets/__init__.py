from .bsds import BSDSDataset
from .coco import CocoInstanceDataset, DigitsDataset
from .transforms import MasksToMaps, PackInstanceMaps
from .voc import VOCInstanceDataset

__all__ = [
    'BSDSDataset',
    'CocoInstanceDataset',
    'DigitsDataset',
    'MasksToMaps',
    'PackInstanceMaps',
    'VOCInstanceDataset',
]
