from .boundaries import BoundaryConsensus, ClassesToInstances, LoadBSDSBoundaries, boundary_consensus
from .map_geometry import RandomCropMaps, RandomRotateMaps
from .masks_to_maps import MasksToMaps, masks_to_maps
from .packing import PackInstanceMaps
from .resizing import ResizeLongerSide

__all__ = [
    'BoundaryConsensus',
    'ClassesToInstances',
    'LoadBSDSBoundaries',
    'boundary_consensus',
    'MasksToMaps',
    'PackInstanceMaps',
    'RandomCropMaps',
    'RandomRotateMaps',
    'ResizeLongerSide',
    'masks_to_maps',
]
