"""Instances of large images, tile by tile."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pycocotools import mask as coco_mask

from ..structures import RunLengthMasks, labels_to_rle
from .image_windows import ImageWindows
from .instance_result import InstanceResult
from .stitching import Stitcher
from .tile_layout import tile_spans

DEFAULT_MARGIN = 96
"""Pixels of the image: chosen on nuclei, see docs/large_images.md."""


def segment_tiled(
    segment: Callable[[np.ndarray], InstanceResult],
    image: ImageWindows,
    tile: int,
    margin: int = DEFAULT_MARGIN,
    labels_HW: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> InstanceResult:
    """Finds the instances of an image tile by tile, and stitches them to those of the whole image.

    Each tile is read, given to ``segment`` and stitched (:class:`Stitcher`) before the next. An image that fits into one tile is
    given to ``segment`` as a whole, and the result is unchanged.

    The contrast has to be that of the whole image: see :func:`~.image_windows.contrast_limits`. Steps that depend on the size of
    the image, a resize to a fixed size for example, give a tile other values than the image
    (:func:`~mmseg_instancenet.apis.image_alone.check_parts_alike` refuses them).

    Peak memory: that of ``segment`` for ``tile`` x ``tile`` pixels; the label map, 4 bytes a pixel, unless it is a memory map;
    the masks of the result; and about 8 x ``margin`` bytes for each column of the image.

    Args:
        segment: from (h, w) or (h, w, C), as ``image`` gives it, to the instances at the same size. Masks that overlap are not
            kept: a pixel belongs to the instance that has it in the label map.
        image: an array, a memory map, or of :func:`~.image_windows.open_windows`.
        tile: greatest height and width of a tile in pixels, margins included.
        margin: context around each tile's own pixels, in pixels of the image. An object of up to twice the margin that crosses a
            seam lies whole in at least one of the tiles.
        labels_HW: where the label map is written, (H, W) int32, for example a ``np.memmap``; ``None`` makes it in memory.
        progress: called after each tile with the number of tiles that are done and of all.

    Returns:
        the instances of the whole image; ``labels`` is ``labels_HW`` if that was given.

    Raises:
        ValueError: if the tile is too small for the margin, ``labels_HW`` does not fit, or ``segment`` gives another size.

    Example:
        >>> from skimage.measure import label
        >>> def bright_areas(image):
        ...     labels = label(image > 0).astype(np.int32)
        ...     masks = RunLengthMasks(labels_to_rle(labels, labels.max()), labels.shape)
        ...     scores = np.ones(len(masks), np.float32)
        ...     return InstanceResult(labels, scores.astype(np.int64) * 0, scores, np.zeros((len(masks), 4)), masks, ('spot',))
        >>> image = np.zeros((40, 200), np.uint8)
        >>> image[5:9, 20:30], image[20:30, 60:150] = 1, 1
        >>> result = segment_tiled(bright_areas, image, tile=64, margin=16)
        >>> len(result), result.areas.tolist(), result.boxes.tolist()
        (2, [40, 900], [[20.0, 5.0, 30.0, 9.0], [60.0, 20.0, 150.0, 30.0]])
    """
    height, width = image.shape[:2]
    rows, columns = tile_spans(height, tile, margin), tile_spans(width, tile, margin)
    if labels_HW is None:
        labels_HW = np.zeros((height, width), np.int32)
    stitcher = Stitcher(labels_HW, rows, columns)
    class_names: tuple[str, ...] = ()
    for row, in_rows in enumerate(rows):
        for column, in_columns in enumerate(columns):
            result = segment(image[in_rows.window, in_columns.window])
            if len(rows) == len(columns) == 1:
                labels_HW[:] = result.labels
                return replace(result, labels=labels_HW)
            stitcher.add(row, column, result)
            class_names = result.class_names
            if progress is not None:
                progress(row * len(columns) + column + 1, len(rows) * len(columns))
    stitched = stitcher.finish()
    masks = RunLengthMasks(labels_to_rle(labels_HW, len(stitched.score_K)), (height, width))
    return InstanceResult(
        labels=labels_HW,
        class_indices=stitched.class_K,
        scores=stitched.score_K,
        boxes=_boxes(masks),
        masks=masks,
        class_names=class_names,
    )


def _boxes(masks: RunLengthMasks) -> np.ndarray:
    """(K, 4) float32: x1, y1, x2, y2."""
    box_K4 = np.array(coco_mask.toBbox(list(masks)), np.float32).reshape(-1, 4)  # x1, y1, width, height
    box_K4[:, 2:] += box_K4[:, :2]
    return box_K4
