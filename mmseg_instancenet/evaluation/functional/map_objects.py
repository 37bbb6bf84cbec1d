"""Reads the true objects of an image from its two label maps, for data sets without a COCO json."""

from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from ...structures import IGNORED_CLASS, IGNORED_INSTANCE, labels_to_rle


class MapObjects(NamedTuple):
    """The G objects of an image, in order of their ids, and its void pixels; masks are run-length encoded.

    Attributes:
        label_G: (G,) int64 classes from 0, as in the data set's list of classes.
        void: unlabelled pixels; ``None`` where there is no such pixel.
    """

    masks_G: list[dict]
    label_G: np.ndarray
    void: dict | None


def map_objects(
    instance_map_HW: np.ndarray, class_map_HW: np.ndarray, num_classes: int, background: bool = True
) -> MapObjects:
    """Reads the objects of an image from its instance map and its class map.

    Each id above 0 is one object. Class c of the map is class c - 1 of the data set where 0 is the background, else class c.
    Pixels with id -1 or class 255 are void and belong to no object.

    Memory is linear in the pixels; no mask of the image's size is made for an object.

    Args:
        instance_map_HW: (H, W) integers; 0 = background, 1 and above = objects with any gaps, -1 = ignore.
        class_map_HW: (H, W) integers; 0 = background, 1 .. ``num_classes``, 255 = ignore; 0 .. ``num_classes`` - 1 without a
            background.
        num_classes: of the data set, without the background.
        background: whether class 0 of the map is the background.

    Raises:
        ValueError: if the maps differ in size, an object has pixels of several classes or of the background, or a class is
            none of the data set.

    Example:
        >>> objects = map_objects(np.array([[7, 7, 0, -1]]), np.array([[2, 2, 0, 255]]), num_classes=2)
        >>> objects.label_G, coco_mask.decode(objects.masks_G), coco_mask.decode(objects.void)
        (array([1]), array([[[1],
                [1],
                [0],
                [0]]], dtype=uint8), array([[0, 0, 0, 1]], dtype=uint8))
    """
    if instance_map_HW.ndim != 2 or instance_map_HW.shape != class_map_HW.shape:
        raise ValueError(
            f'expected instance and class maps of one shape (H, W), got {instance_map_HW.shape} and {class_map_HW.shape}'
        )
    void_HW = (instance_map_HW == IGNORED_INSTANCE) | (class_map_HW == IGNORED_CLASS)
    inside_HW = (instance_map_HW > 0) & ~void_HW
    id_G, index_P = np.unique(instance_map_HW[inside_HW], return_inverse=True)
    class_P = class_map_HW[inside_HW].astype(np.int64)
    class_G = np.zeros(len(id_G), np.int64)
    class_G[index_P] = class_P
    mixed_P = class_P != class_G[index_P]
    if mixed_P.any():
        pixel = mixed_P.argmax()
        raise ValueError(
            f'expected one class for each object, got object {id_G[index_P[pixel]]} of gt_instance_map with pixels of the '
            f'classes {class_P[pixel]} and {class_G[index_P[pixel]]} in gt_sem_seg: give objects of different classes '
            'different ids'
        )
    label_G = class_G - background
    strange_G = (label_G < 0) | (label_G >= num_classes)
    if strange_G.any():
        raise ValueError(
            f'expected objects of the classes {int(background)} .. {num_classes - (not background)} in gt_sem_seg'
            f'{" (0 is the background)" if background else ""}, got object {id_G[strange_G][0]} of gt_instance_map with class '
            f'{class_G[strange_G][0]}'
        )
    number_HW = np.zeros(instance_map_HW.shape, np.int64)
    number_HW[inside_HW] = index_P + 1
    void = coco_mask.encode(np.asfortranarray(void_HW, np.uint8)) if void_HW.any() else None
    return MapObjects(labels_to_rle(number_HW, len(id_G)), label_G, void)
