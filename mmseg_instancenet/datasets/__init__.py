from .coco import CocoInstanceDataset, DigitsDataset
from .transforms import MasksToMaps, PackInstanceMaps

__all__ = ['CocoInstanceDataset', 'DigitsDataset', 'MasksToMaps', 'PackInstanceMaps']
