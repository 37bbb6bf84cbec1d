"""The instances of an image as arrays and as files for other programs."""

from .coco_json import coco_annotations, coco_image, write_coco
from .geojson import geojson_features, write_geojson
from .imagej_rois import write_rois
from .instance_result import InstanceResult
from .label_image import write_label_image
from .outlines import mask_outlines
from .pixels import read_pixels
from .prediction_folder import DEFAULT_FORMATS, FORMATS, PredictionFolder, remove_predictions
from .tables import image_columns, image_row, object_columns, object_rows

__all__ = [
    'DEFAULT_FORMATS',
    'FORMATS',
    'InstanceResult',
    'PredictionFolder',
    'coco_annotations',
    'coco_image',
    'geojson_features',
    'image_columns',
    'image_row',
    'mask_outlines',
    'object_columns',
    'object_rows',
    'read_pixels',
    'remove_predictions',
    'write_coco',
    'write_geojson',
    'write_label_image',
    'write_rois',
]
