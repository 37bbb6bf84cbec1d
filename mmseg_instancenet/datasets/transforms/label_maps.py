"""Label maps inside a pipeline: their keys in the results, and the checks at its end."""

import numpy as np

from ...structures import BACKGROUND_INSTANCE, IGNORED_CLASS, IGNORED_INSTANCE

_ORDER = (
    "mmdet's transforms come before MasksToMaps; after the loading of maps come those that move all maps in "
    "results['seg_fields'], mmseg's and this package's ..Maps; in place of mmcv's Pad set size or size_divisor of the "
    'data_preprocessor'
)


def name_maps(results: dict, zero_is_background: bool, **maps: np.ndarray) -> None:
    """Puts label maps into the results of a pipeline and lists them in ``seg_fields``, which mmseg's transforms read.

    The maps become float32: OpenCV neither resizes nor rotates int64, and where a transform interpolates labels, fractions show
    it (:func:`check_maps`). It holds every integer up to 2 ** 24.

    Args:
        results: changed.
        zero_is_background: whether class 0 and instance 0 are the same pixels, as where the class map is made of the objects.
        **maps: (H, W) integers, by their keys.
    """
    fields = results.setdefault('seg_fields', [])
    for key, label_HW in maps.items():
        results[key] = label_HW.astype(np.float32)
        if key not in fields:
            fields.append(key)
    results['zero_is_background'] = zero_is_background
    results['ori_shape_of_maps'] = results.get('ori_shape')


def ignore_where_class_is(class_map: np.ndarray, instance_map: np.ndarray) -> np.ndarray:
    """The instance map with -1 where the class map is 255.

    A transform of mmseg's fills all maps with one value, 255, where there is no image (``RandomRotate``, ``RandomCutOut``,
    ``RandomMosaic``); in the instance map that would be an object.

    Example:
        >>> ignore_where_class_is(np.array([[1, 255]]), np.array([[255, 255]]))
        array([[255,  -1]])
    """
    return np.where(class_map == IGNORED_CLASS, np.array(IGNORED_INSTANCE, instance_map.dtype), instance_map)


def check_maps(results: dict) -> None:
    """Raises ValueError if the class map and the instance map are no longer aligned, or no longer hold labels.

    Raises:
        ValueError: which names the transform to take.
    """
    class_map, instance_map = results['gt_seg_map'], results['gt_instance_map']
    for key, label_HW in {'gt_seg_map': class_map, 'gt_instance_map': instance_map}.items():
        between = label_HW[label_HW != np.floor(label_HW)]
        if between.size:
            raise ValueError(
                f'expected labels in {key}, got values between them, such as {between[0]:.3f}: a transform interpolated the map, '
                "as mmseg's RandomRotFlip does; take RandomRotateMaps and RandomTurnMaps in its place"
            )
    if class_map.shape != instance_map.shape:
        raise ValueError(
            f'expected label maps of one size, got gt_seg_map {class_map.shape} and gt_instance_map {instance_map.shape} '
            f'pixels (height, width), so a transform changed one of them only: {_ORDER}'
        )
    # Only RandomMosaic replaces ori_shape; copies of the results keep the same tuple object.
    if 'ori_shape_of_maps' in results and results['ori_shape_of_maps'] is not results.get('ori_shape'):
        raise ValueError(
            "mmseg's RandomMosaic mixed images, and objects of different images have the same id: take "
            "dict(type='RandomMosaicMaps', ..) with the same settings in its place"
        )
    if results.get('zero_is_background'):
        instance_map = ignore_where_class_is(class_map, instance_map)
        count = np.count_nonzero((class_map == 0) != (instance_map == BACKGROUND_INSTANCE))
        if count:
            raise ValueError(
                f'expected one background in gt_seg_map and gt_instance_map, got {count} pixels where only one of them is 0, so '
                f"a transform (mmdet's or mmcv's RandomFlip?) moved one of them only: {_ORDER}"
            )
