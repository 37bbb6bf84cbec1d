"""From instance masks to the class map and the instance map."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from ...structures import IGNORED_CLASS, IGNORED_INSTANCE
from .label_maps import name_maps


def masks_to_maps(masks_KHW: np.ndarray, labels_K: np.ndarray, ignored_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paints masks into one class map and one instance map.

    Where masks overlap the smaller one lies on top (among equals the later). Pixels that only ignored masks cover
    (crowds, void, objects too small for the data set) are ignored; an object drawn over a crowd stays an object.

    Args:
        masks_KHW: (K, H, W) 0 or 1, K may be 0.
        labels_K: (K,) classes from 0, as in COCO's list of classes.
        ignored_K: (K,) bool.

    Returns:
        class map (H, W) int64: 0 = background, label + 1, 255 = ignore; instance map (H, W) int64: 0 = background, k + 1 for
        mask k, -1 = ignore.

    Example:
        >>> masks = np.array([[[1, 1, 1]], [[0, 0, 1]]])
        >>> masks_to_maps(masks, np.array([4, 7]), np.array([False, False]))[0]
        array([[5, 5, 8]])
    """
    size = masks_KHW.shape[1:]
    class_map, instance_map = np.zeros(size, np.int64), np.zeros(size, np.int64)
    inside_KHW = masks_KHW != 0
    area_K = np.count_nonzero(inside_KHW, axis=(1, 2))
    for index in np.flatnonzero(ignored_K):
        class_map[inside_KHW[index]] = IGNORED_CLASS
        instance_map[inside_KHW[index]] = IGNORED_INSTANCE
    # Painting within the box of each mask: hundreds of masks the size of the image took most of the time of a pipeline.
    row_KH, column_KW = inside_KHW.any(2), inside_KHW.any(1)
    for index in np.argsort(-area_K, kind='stable'):
        if ignored_K[index] or area_K[index] == 0:
            continue
        (top, bottom), (left, right) = (np.flatnonzero(hit)[[0, -1]] for hit in (row_KH[index], column_KW[index]))
        box = (slice(top, bottom + 1), slice(left, right + 1))
        class_map[box][inside_KHW[index][box]] = labels_K[index] + 1
        instance_map[box][inside_KHW[index][box]] = index + 1
    return class_map, instance_map


@TRANSFORMS.register_module()
class MasksToMaps(BaseTransform):
    """Turns ``gt_masks`` into the two maps to train on; see :func:`masks_to_maps`.

    mmdet's geometric transforms come before it, as they move masks and boxes; mmseg's and this package's ``..Maps`` come after
    it, as they move the maps that ``seg_fields`` names. In either place an object that a crop or a resize removed leaves no
    trace. In testing ``mmdet.LoadAnnotations`` comes after the resize, so that the maps have the original size.

    Required keys, which are removed: gt_masks, gt_bboxes_labels, gt_ignore_flags; gt_bboxes goes with them, for mmseg's
    transforms take boxes for arrays. Added keys: gt_seg_map, gt_instance_map (H, W) float32, both named in seg_fields.
    """

    def transform(self, results: dict) -> dict:
        if 'gt_masks' not in results:
            raise KeyError(
                "MasksToMaps needs 'gt_masks': put dict(type='mmdet.LoadAnnotations', with_mask=True) before it"
            )
        masks = results['gt_masks']
        masks_KHW = masks.to_ndarray().reshape(-1, masks.height, masks.width)
        class_map, instance_map = masks_to_maps(
            masks_KHW, results['gt_bboxes_labels'], np.asarray(results['gt_ignore_flags'], bool)
        )
        for key in ('gt_masks', 'gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags'):
            results.pop(key, None)
        name_maps(results, zero_is_background=True, gt_seg_map=class_map, gt_instance_map=instance_map)
        return results


__all__ = ['MasksToMaps', 'masks_to_maps']
