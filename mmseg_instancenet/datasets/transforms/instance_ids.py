"""Instance maps from images of ids, for data sets without a COCO json."""

from collections.abc import Callable

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.fileio import get
from mmseg.registry import TRANSFORMS

from ...structures import BACKGROUND_INSTANCE, IGNORED_CLASS, IGNORED_INSTANCE, check_pixel_count, is_damaged_png
from .label_maps import name_maps


def number_objects(ids_HW: np.ndarray, object_HW: np.ndarray) -> np.ndarray:
    """Numbers the ids of objects 1, 2, .. in ascending order: (H, W) int64, 0 elsewhere.

    Args:
        ids_HW: (H, W) integers.
        object_HW: (H, W) bool.

    Example:
        >>> number_objects(np.array([[7, 26002, 26001]]), np.array([[False, True, True]]))
        array([[0, 2, 1]])
    """
    instance_map = np.full(ids_HW.shape, BACKGROUND_INSTANCE, np.int64)
    instance_map[object_HW] = np.unique(ids_HW[object_HW], return_inverse=True)[1].ravel() + 1
    return instance_map


def cityscapes_instances(ids_HW: np.ndarray) -> np.ndarray:
    """Converts Cityscapes' ``*_gtFine_instanceIds.png`` to an instance map: (H, W) int64.

    From 1000 on an id is class * 1000 + object. Below it is a class: 0, no single object, unless the class has objects
    (24, person, to 33, bicycle). That is a group of objects without outlines of their own: -1.

    Args:
        ids_HW: (H, W) integers.
    """
    _check_depth('Cityscapes', ids_HW)
    instance_map = number_objects(ids_HW, ids_HW >= 1000)
    instance_map[(ids_HW >= 24) & (ids_HW <= 33)] = IGNORED_INSTANCE
    return instance_map


def ade20k_instances(rgb_HW3: np.ndarray) -> np.ndarray:
    """Converts ``annotations_instance/*.png`` of ADE20K's challenge to an instance map: (H, W) int64.

    Red is the category, 0 for none, green the number of the object. (The ``*_seg.png`` of the full ADE20K are others.)

    Args:
        rgb_HW3: (H, W, 3) uint8.
    """
    if rgb_HW3.ndim != 3 or rgb_HW3.shape[2] != 3 or rgb_HW3.dtype != np.uint8:
        raise ValueError(
            f"expected ADE20K's annotations_instance, three channels of 8 bits, got {rgb_HW3.dtype} {rgb_HW3.shape}"
        )
    category_HW, number_HW = rgb_HW3[..., 0].astype(np.int64), rgb_HW3[..., 1]
    return number_objects(category_HW * 256 + number_HW, category_HW > 0)


def label_instances(ids_HW: np.ndarray) -> np.ndarray:
    """Converts a label image to an instance map, (H, W) int64: every value except 0 is an object.

    Args:
        ids_HW: (H, W) bool or integers of any depth.
    """
    _check_depth('a label image', ids_HW)
    return number_objects(ids_HW, ids_HW != 0)


def _check_depth(name: str, ids_HW: np.ndarray) -> None:
    if ids_HW.ndim != 2 or ids_HW.dtype.kind not in 'bui':
        raise ValueError(f'expected ids of {name}, (H, W) integers, got {ids_HW.dtype} {ids_HW.shape}')


_RULES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], tuple[str, str] | None]] = {
    'cityscapes': (cityscapes_instances, ('_labelTrainIds.png', '_instanceIds.png')),
    'ade20k': (ade20k_instances, ('/annotations/', '/annotations_instance/')),
    'labels': (label_instances, None),
}
"""For each rule its function, and the part of the path of a class map to replace for the path of the ids."""


@TRANSFORMS.register_module()
class LoadInstanceIds(BaseTransform):
    """Loads an image of ids into the instance map; the objects are numbered 1, 2, .. in the order of their ids.

    The file is ``instance_map_path`` of the data set; or else the path of the class map (``seg_map_path``; without one, of the
    image) with the last ``replace[0]`` replaced by ``replace[1]``. A class map is loaded first, and stays the data set's; where
    the data set has none, or the ids are all it has, every object is class 1. png, and tif of up to 32 bits; palettes are read as
    numbers.

    Required keys: seg_map_path or img_path. Added keys: gt_instance_map (H, W) float32, and gt_seg_map where there was
    none, named in seg_fields.

    Args:
        rule: meaning of the numbers: 'cityscapes' (:func:`cityscapes_instances`), 'ade20k' (:func:`ade20k_instances`) or
            'labels' (:func:`label_instances`).
        replace: (old, new); ('_labelTrainIds.png', '_instanceIds.png') for Cityscapes, ('/annotations/',
            '/annotations_instance/') for ADE20K and the class map's own path for labels unless given.
        backend_args: where the file lies, as in mmcv's ``LoadImageFromFile``.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is of another kind or size.

    Example:
        >>> train_pipeline = [
        ...     dict(type='LoadImageFromFile'),
        ...     dict(type='LoadAnnotations'),
        ...     dict(type='LoadInstanceIds', rule='cityscapes'),
        ...     dict(type='RandomCrop', crop_size=(512, 1024)),
        ...     dict(type='RandomFlip', prob=0.5),
        ...     dict(type='PackInstanceMaps'),
        ... ]
    """

    def __init__(self, rule: str, replace: tuple[str, str] | None = None, backend_args: dict | None = None) -> None:
        if rule not in _RULES:
            raise ValueError(f'expected a rule out of {sorted(_RULES)}, got {rule!r}')
        if replace is not None and len(replace) != 2:
            raise ValueError(f'expected replace=(old, new), got {replace}')
        self.rule, self.backend_args = rule, backend_args
        self.replace = replace or _RULES[rule][1]

    def _path(self, results: dict) -> str:
        class_path = results.get('seg_map_path')
        if 'instance_map_path' in results:
            path = results['instance_map_path']
        elif self.replace is not None:
            old, new = self.replace
            parts = (class_path or results['img_path']).rsplit(old, 1)
            if len(parts) == 1:
                raise ValueError(
                    f'expected {old!r} in the path {parts[0]}, to be replaced by {new!r} for the path of the ids; set replace='
                    '(old, new) of LoadInstanceIds, or instance_map_path in the data set'
                )
            path = new.join(parts)
        else:
            path = class_path
        if path is None or (path == class_path and 'gt_seg_map' in results):
            raise ValueError(
                f'expected the path of an image of ids beside {class_path or results["img_path"]}; set replace=(old, new) of '
                'LoadInstanceIds, or instance_map_path in the data set'
            )
        if class_path not in (None, path) and 'gt_seg_map' not in results:
            # Loaded later, the class map would be named twice in seg_fields, and moved twice.
            raise KeyError(
                f"the class map {class_path} is not loaded: put dict(type='LoadAnnotations') before LoadInstanceIds"
            )
        return path

    def transform(self, results: dict) -> dict:
        path = self._path(results)
        try:
            content = get(path, backend_args=self.backend_args)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'image of ids not found: {path} (of {results.get("img_path")}); set replace=(old, new) of LoadInstanceIds, or '
                'instance_map_path in the data set'
            ) from error
        check_pixel_count(content, path)
        try:
            if is_damaged_png(content):
                raise ValueError('a checksum does not fit')
            ids = mmcv.imfrombytes(content, flag='unchanged', backend='pillow')
        except Exception as error:  # Pillow has many kinds for damaged files
            raise ValueError(
                f'{path} (of {results.get("img_path")}): expected an image of ids, got {len(content)} bytes that cannot be '
                f'read: {error!r}'
            ) from error
        try:
            # mmcv gives colours in OpenCV's order.
            instance_map = _RULES[self.rule][0](ids[..., ::-1] if ids.ndim == 3 else ids)
        except ValueError as error:
            raise ValueError(f'{path}: {error}; set rule of LoadInstanceIds to one of {sorted(_RULES)}') from error
        self._check_size(results, instance_map, path)
        if 'gt_seg_map' in results:
            name_maps(results, zero_is_background=False, gt_instance_map=instance_map)
        else:
            class_map = np.where(instance_map == IGNORED_INSTANCE, IGNORED_CLASS, instance_map > 0)
            name_maps(results, zero_is_background=True, gt_seg_map=class_map, gt_instance_map=instance_map)
        return results

    @staticmethod
    def _check_size(results: dict, instance_map: np.ndarray, path: str) -> None:
        name, size = 'class map', results.get('gt_seg_map', instance_map).shape
        if 'gt_seg_map' not in results and 'ori_shape' in results:
            name, size = 'image', tuple(results['ori_shape'][:2])
        if instance_map.shape != size:
            raise ValueError(
                f'{path} is {instance_map.shape} pixels (height, width), its {name} {size}: expected one size. Load the ids '
                'directly after the class map, before crops and resizes of it'
            )
