"""Loads the masks of an image's objects, each within its box."""

from collections.abc import Sequence

import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS
from pycocotools import mask as coco_mask

from ...structures import BoxedMasks, MaskCrop
from ..annotations.run_lengths import decode_counts, measure
from .image_size import check_image_size


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
    """Masks in compressed run lengths (``size``, ``counts``) within their boxes.

    Time and memory: of the columns that each mask spans.
    """
    if not masks:
        return []
    runs = decode_counts([mask['counts'] for mask in masks])
    height_K = np.array([mask['size'][0] for mask in masks], np.int64)
    box_K4 = measure(runs, height_K).box_K4
    crops = []
    for counts, height, (left, top, right, bottom) in zip(
        np.split(runs.count_R, runs.first_K[1:]), height_K.tolist(), box_K4.tolist(), strict=True
    ):
        # The runs of the columns left .. right alone: the first one begins there, all end there.
        stop = np.cumsum(counts) - left * height
        counts = np.diff(np.clip(stop, 0, (right - left) * height), prepend=0)
        values = np.repeat(np.arange(len(counts), dtype=np.uint8) % 2, counts)
        crops.append(MaskCrop(top, left, values.reshape(right - left, height)[:, top:bottom].T))
    return crops
