"""Loads the masks of an image's objects, each cropped to its box."""

from collections.abc import Sequence

import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS
from pycocotools import mask as coco_mask

from ...structures import BoxedMasks, MaskCrop
from ..annotations.run_lengths import decode_counts, measure
from .image_size import check_image_size

_PIXELS_AT_ONCE = 2**26


@TRANSFORMS.register_module()
class LoadInstanceMasks(LoadAnnotations):
    """mmdet's ``LoadAnnotations`` of boxes, labels and masks, for images with thousands of objects.

    The masks are the same to the bit, as :class:`BoxedMasks`: memory and time of each object's box instead of the image's size.

    Added keys: gt_bboxes, gt_bboxes_labels, gt_ignore_flags, gt_masks.

    Raises:
        ValueError: if the image has another size than its annotations.

    Example::

        pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadInstanceMasks'), dict(type='MasksToMaps'), ...]
    """

    def __init__(self) -> None:
        super().__init__(with_bbox=True, with_label=True, with_mask=True)

    def _load_masks(self, results: dict) -> None:
        check_image_size(results)
        height, width = results['ori_shape']
        masks = [_run_lengths(mask, height, width) for mask in self._process_masks(results)]
        results['gt_masks'] = BoxedMasks(crops_of(masks), height, width)


def _run_lengths(mask: dict | list, height: int, width: int) -> dict:
    if isinstance(mask, list):
        return coco_mask.merge(coco_mask.frPyObjects([polygon.tolist() for polygon in mask], height, width))
    return coco_mask.frPyObjects(mask, height, width) if isinstance(mask['counts'], list) else mask


def crops_of(masks: Sequence[dict]) -> list[MaskCrop]:
    """Decodes compressed run-length masks (``size``, ``counts``), each cropped to its box.

    Time: of the columns that each mask spans. Peak memory besides the result: 100 MB, or that of the columns of the largest mask.
    """
    if not masks:
        return []
    runs = decode_counts([mask['counts'] for mask in masks])
    height_K = np.array([mask['size'][0] for mask in masks], np.int64)
    box_K4 = measure(runs, height_K).box_K4
    runs_K = np.diff(runs.first_K, append=len(runs.count_R))
    is_first_R = np.zeros(len(runs.count_R), bool)
    is_first_R[runs.first_K] = True
    # Cut the runs to the columns left .. right of the box.
    pixels_K = (box_K4[:, 2] - box_K4[:, 0]) * height_K
    if len(masks) > 1 and pixels_K.sum() > _PIXELS_AT_ONCE:
        half = len(masks) // 2
        return crops_of(masks[:half]) + crops_of(masks[half:])
    stop_R = np.cumsum(runs.count_R)
    begin_K = stop_R[runs.first_K] - runs.count_R[runs.first_K] + box_K4[:, 0] * height_K
    stop_R = np.minimum(np.maximum(stop_R - np.repeat(begin_K, runs_K), 0), np.repeat(pixels_K, runs_K))
    count_R = stop_R - np.where(is_first_R, 0, np.roll(stop_R, 1))
    inside_R = (np.arange(len(count_R)) - np.repeat(runs.first_K, runs_K)) % 2
    values = np.repeat(inside_R.astype(np.uint8), count_R)  # of the columns of all masks
    crops, end = [], 0
    for (left, top, right, bottom), height, pixels in zip(
        box_K4.tolist(), height_K.tolist(), pixels_K.tolist(), strict=True
    ):
        end += pixels
        columns = values[end - pixels : end].reshape(right - left, height)
        crops.append(MaskCrop(top, left, columns[:, top:bottom].T.copy()))  # else all columns are kept
    return crops
