from .boundaries import BoundaryConsensus, ClassesToInstances, LoadBSDSBoundaries, boundary_consensus
from .images import LoadImageFromFile
from .instance_ids import LoadInstanceIds
from .intensity import RandomIntensity
from .load_masks import LoadInstanceMasks
from .map_geometry import RandomCropMaps, RandomMosaicMaps, RandomRotateMaps, RandomScaledCropMaps, RandomTurnMaps
from .masks_to_maps import MasksToMaps, masks_to_maps
from .packing import PackInstanceMaps
from .percentiles import NormalizePercentiles
from .resizing import ResizeLongerSide

__all__ = [
    'BoundaryConsensus',
    'ClassesToInstances',
    'LoadBSDSBoundaries',
    'LoadImageFromFile',
    'LoadInstanceIds',
    'LoadInstanceMasks',
    'boundary_consensus',
    'MasksToMaps',
    'NormalizePercentiles',
    'PackInstanceMaps',
    'RandomCropMaps',
    'RandomIntensity',
    'RandomMosaicMaps',
    'RandomRotateMaps',
    'RandomScaledCropMaps',
    'RandomTurnMaps',
    'ResizeLongerSide',
    'masks_to_maps',
]
