"""Label maps, masks, embeddings, contrast, and positions of maps on images: the lowest folder, which imports no other
one.

Shapes are suffixes of names, one letter for one thing: N images, C classes, D embedding values, H W image, h w map of the head,
P pixels or embeddings, K groups or instances, G true objects, T thresholds. Other letters are declared at the top of the file
that uses them. ``x_PD`` is pixels by embedding, ``mean_KD`` groups by embedding.
"""

from .boxed_masks import BoxedMasks, MaskCrop
from .class_counts import check_class_counts, check_iou_metric, classes_of
from .contrast import check_percentiles, normalize_percentiles, percentile_limits, stretch_contrast
from .drawable import ClassMap, RunLengthMasks
from .embeddings import (
    MIN_LENGTH,
    Distance,
    EmbeddingMargins,
    GroupStatistics,
    bandwidth_precision,
    check_embeddings,
    check_finite,
    check_tensors,
    group_means,
    group_statistics,
    single_or_double,
    unit_vectors,
    zero_loss,
)
from .image_errors import describe_images, images_in_errors
from .image_files import decode_image, decode_tiff, tiff_sizes
from .image_headers import PIXEL_LIMIT, TooManyPixelsError, check_pixel_count, is_tiff, max_pixels, open_header
from .labels import (
    BACKGROUND_INSTANCE,
    IGNORED_CLASS,
    IGNORED_INSTANCE,
    VOID,
    mask_ignored,
    renumber,
    resize_labels,
    split_components,
)
from .masks import labels_to_boxes, labels_to_rle, point_boxes
from .overlaps import Covers, Overlaps, covering_groups, overlapping_groups
from .part_percentiles import percentile_limits_of_parts
from .placement import MapPlacement, bilinear_neighbours, image_coordinates, input_size, map_size, sample_bilinear
from .png_damage import is_damaged_png
from .tiff_damage import is_damaged_tiff

__all__ = [
    'BACKGROUND_INSTANCE',
    'IGNORED_CLASS',
    'IGNORED_INSTANCE',
    'MIN_LENGTH',
    'RunLengthMasks',
    'PIXEL_LIMIT',
    'VOID',
    'BoxedMasks',
    'ClassMap',
    'Covers',
    'Distance',
    'EmbeddingMargins',
    'GroupStatistics',
    'MaskCrop',
    'MapPlacement',
    'TooManyPixelsError',
    'Overlaps',
    'bandwidth_precision',
    'bilinear_neighbours',
    'check_class_counts',
    'check_iou_metric',
    'check_pixel_count',
    'classes_of',
    'covering_groups',
    'check_embeddings',
    'check_finite',
    'check_percentiles',
    'check_tensors',
    'decode_image',
    'decode_tiff',
    'describe_images',
    'group_means',
    'group_statistics',
    'image_coordinates',
    'images_in_errors',
    'input_size',
    'is_tiff',
    'is_damaged_png',
    'is_damaged_tiff',
    'labels_to_boxes',
    'labels_to_rle',
    'map_size',
    'mask_ignored',
    'max_pixels',
    'normalize_percentiles',
    'overlapping_groups',
    'percentile_limits',
    'percentile_limits_of_parts',
    'open_header',
    'point_boxes',
    'renumber',
    'resize_labels',
    'sample_bilinear',
    'single_or_double',
    'split_components',
    'stretch_contrast',
    'tiff_sizes',
    'unit_vectors',
    'zero_loss',
]
