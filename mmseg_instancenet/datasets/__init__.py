from .bsds import BSDSDataset
from .coco import CocoInstanceDataset, DigitsDataset
from .transforms import LoadInstanceIds, MasksToMaps, PackInstanceMaps
from .voc import VOCInstanceDataset

__all__ = [
    'BSDSDataset',
    'CocoInstanceDataset',
    'DigitsDataset',
    'LoadInstanceIds',
    'MasksToMaps',
    'PackInstanceMaps',
    'VOCInstanceDataset',
]
