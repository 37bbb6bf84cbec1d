"""The instances of an image as arrays and as files for other programs; large images tile by tile."""

from .coco_json import coco_annotations, coco_image, write_coco
from .geojson import geojson_features, write_geojson
from .image_windows import ImageWindows, contrast_limits, image_blocks, open_windows
from .imagej_rois import write_rois
from .instance_result import InstanceResult
from .label_image import write_label_image
from .outlines import mask_outlines
from .pixels import read_pixels
from .prediction_folder import DEFAULT_FORMATS, FORMATS, PredictionFolder, remove_predictions
from .stitching import StitchedInstances, Stitcher
from .tables import image_columns, image_row, object_columns, object_rows
from .tile_layout import TileSpan, tile_spans
from .tiling import DEFAULT_MARGIN, segment_tiled

__all__ = [
    'DEFAULT_FORMATS',
    'DEFAULT_MARGIN',
    'FORMATS',
    'ImageWindows',
    'InstanceResult',
    'PredictionFolder',
    'StitchedInstances',
    'Stitcher',
    'TileSpan',
    'coco_annotations',
    'coco_image',
    'contrast_limits',
    'geojson_features',
    'image_blocks',
    'image_columns',
    'image_row',
    'mask_outlines',
    'object_columns',
    'object_rows',
    'open_windows',
    'read_pixels',
    'remove_predictions',
    'segment_tiled',
    'tile_spans',
    'write_coco',
    'write_geojson',
    'write_label_image',
    'write_rois',
]
