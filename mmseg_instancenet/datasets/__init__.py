from .bsds import BSDSDataset
from .coco import CocoInstanceDataset, DigitsDataset
from .label_image_dataset import LabelImageDataset
from .transforms import LoadInstanceIds, MasksToMaps, PackInstanceMaps
from .voc import VOCInstanceDataset

__all__ = [
    'BSDSDataset',
    'CocoInstanceDataset',
    'DigitsDataset',
    'LabelImageDataset',
    'LoadInstanceIds',
    'MasksToMaps',
    'PackInstanceMaps',
    'VOCInstanceDataset',
]
