"""Conversion of instance masks to a class map and an instance map."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.mask import BitmapMasks
from mmseg.registry import TRANSFORMS

from ...structures import IGNORED_CLASS, IGNORED_INSTANCE, BoxedMasks
from .image_size import check_image_size
from .label_maps import name_maps


def masks_to_maps(masks: BitmapMasks, labels_K: np.ndarray, ignored_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paints masks into one class map and one instance map.

    Where masks overlap the smaller one lies on top (among equals the later). Pixels that only ignored masks cover
    (crowds, void, objects with an ``ignore`` flag) are ignored; an object drawn over a crowd stays an object.

    Time: of the boxes of :class:`BoxedMasks`. Peak memory besides the masks: the two maps.

    Args:
        masks: of K objects, K may be 0.
        labels_K: (K,) classes from 0, as in COCO's list of classes.
        ignored_K: (K,) bool.

    Returns:
        class map (H, W) int64: 0 = background, label + 1, 255 = ignore; instance map (H, W) int64: 0 = background, k + 1 for
        mask k, -1 = ignore.

    Example:
        >>> masks = BitmapMasks(np.array([[[1, 1, 1]], [[0, 0, 1]]]), height=1, width=3)
        >>> masks_to_maps(masks, np.array([4, 7]), np.array([False, False]))[0]
        array([[5, 5, 8]])
    """
    masks = BoxedMasks.of(masks)
    class_map = np.zeros((masks.height, masks.width), np.int64)
    instance_map = np.zeros_like(class_map)
    inside_K = [crop.mask_hw != 0 for crop in masks.crops]
    box_K = [crop.box for crop in masks.crops]
    for index in np.flatnonzero(ignored_K):
        class_map[box_K[index]][inside_K[index]] = IGNORED_CLASS
        instance_map[box_K[index]][inside_K[index]] = IGNORED_INSTANCE
    area_K = np.array([np.count_nonzero(inside_hw) for inside_hw in inside_K])
    for index in np.argsort(-area_K, kind='stable'):
        if not ignored_K[index]:
            class_map[box_K[index]][inside_K[index]] = labels_K[index] + 1
            instance_map[box_K[index]][inside_K[index]] = index + 1
    return class_map, instance_map


@TRANSFORMS.register_module()
class MasksToMaps(BaseTransform):
    """Converts ``gt_masks`` to the class map and the instance map of training; see :func:`masks_to_maps`.

    mmdet's geometric transforms come before it, as they move masks and boxes; mmseg's and this package's ``..Maps`` come after
    it, as they move the maps that ``seg_fields`` names. In either place an object that a crop or a resize removed leaves no
    trace. In testing ``LoadInstanceMasks`` comes after the resize, so that the maps have the original size.

    Required keys, which are removed: gt_masks, gt_bboxes_labels, gt_ignore_flags; gt_bboxes goes with them, for mmseg's
    transforms take boxes for arrays. Added keys: gt_seg_map, gt_instance_map (H, W) float32, both named in seg_fields.
    """

    def transform(self, results: dict) -> dict:
        if 'gt_masks' not in results:
            raise KeyError("MasksToMaps needs 'gt_masks': put dict(type='LoadInstanceMasks') before it")
        check_image_size(results)
        class_map, instance_map = masks_to_maps(
            results['gt_masks'], results['gt_bboxes_labels'], np.asarray(results['gt_ignore_flags'], bool)
        )
        for key in ('gt_masks', 'gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags'):
            results.pop(key, None)
        name_maps(results, zero_is_background=True, gt_seg_map=class_map, gt_instance_map=instance_map)
        return results


__all__ = ['MasksToMaps', 'masks_to_maps']
