"""Objects of two label maps, by hand and against comparisons of pixels."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmseg_instancenet.evaluation.functional.map_objects import map_objects


def test_objects_by_hand():
    instance_map = np.array([[9, 9, 0, 4], [9, 0, -1, 4]])
    class_map = np.array([[1, 1, 0, 3], [1, 0, 255, 3]])
    objects = map_objects(instance_map, class_map, num_classes=3)
    assert objects.label_G.tolist() == [2, 0]  # object 4, then object 9
    assert [coco_mask.decode(mask).tolist() for mask in objects.masks_G] == [
        [[0, 0, 0, 1], [0, 0, 0, 1]],
        [[1, 1, 0, 0], [1, 0, 0, 0]],
    ]
    assert coco_mask.decode(objects.void).tolist() == [[0, 0, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize('dtype', [np.int64, np.int32, np.int16])
def test_masks_are_those_of_the_pixels(dtype):
    rng = np.random.default_rng(0)
    instance_map = rng.choice([-1, 0, 1, 5, 300], (13, 17)).astype(dtype)
    class_map = np.select([instance_map == 1, instance_map == 5, instance_map == 300], [2, 1, 2], 0)
    class_map[rng.random(class_map.shape) < 0.1] = 255  # void by one map alone, the pixels of objects too
    objects = map_objects(instance_map, class_map, num_classes=2)
    assert objects.label_G.tolist() == [1, 0, 1]
    for mask, number in zip(objects.masks_G, (1, 5, 300), strict=True):
        assert np.array_equal(coco_mask.decode(mask), (instance_map == number) & (class_map != 255))
    assert np.array_equal(coco_mask.decode(objects.void), (instance_map == -1) | (class_map == 255))


def test_nothing_and_void_alone():
    zeros = np.zeros((2, 3), int)
    assert map_objects(zeros, zeros, 2).masks_G == []
    assert map_objects(zeros, zeros, 2).void is None
    objects = map_objects(zeros + 5, zeros + 255, 2)
    assert (objects.masks_G, objects.label_G.tolist()) == ([], [])
    assert coco_mask.area(objects.void) == 6


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        ([1, 2, 0], 'one class for each object, got object 7 .* with pixels of the classes 1 and 2 in gt_sem_seg'),
        ([1, 0, 0], 'object 7 .* with pixels of the classes 1 and 0'),
        ([0, 0, 0], r'objects of the classes 1 \.\. 2 .*0 is the background.*got object 7 .* with class 0'),
        ([3, 3, 0], r'objects of the classes 1 \.\. 2 .*got object 7 .* with class 3'),
        ([1, 1], r'one shape \(H, W\), got \(1, 3\) and \(1, 2\)'),
    ],
)
def test_maps_that_do_not_fit(classes, message):
    with pytest.raises(ValueError, match=message):
        map_objects(np.array([[7, 7, 0]]), np.array([classes]), num_classes=2)
