from .masks_to_maps import MasksToMaps, masks_to_maps
from .packing import PackInstanceMaps
from .resizing import ResizeLongerSide

__all__ = ['MasksToMaps', 'PackInstanceMaps', 'ResizeLongerSide', 'masks_to_maps']
