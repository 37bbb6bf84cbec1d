"""The instances of an image in arrays, and in the files that other programs read."""

from .image_windows import ImageWindows, contrast_limits, image_blocks, open_windows
from .instance_result import InstanceResult
from .stitching import StitchedInstances, Stitcher
from .tile_layout import TileSpan, tile_spans
from .tiling import DEFAULT_MARGIN, segment_tiled

__all__ = [
    'DEFAULT_MARGIN',
    'ImageWindows',
    'InstanceResult',
    'StitchedInstances',
    'Stitcher',
    'TileSpan',
    'contrast_limits',
    'image_blocks',
    'open_windows',
    'segment_tiled',
    'tile_spans',
]
