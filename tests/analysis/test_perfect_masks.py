"""What the head's map leaves of the objects."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmseg_instancenet.analysis.perfect_masks import perfect_masks
from mmseg_instancenet.evaluation.metrics.mask_metric import ImageMasks, truth_maps


def image_masks(objects, labels, crowds=()):
    encoded = [[coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks] for masks in (objects, crowds)]
    return ImageMasks(
        [], np.zeros(0), np.zeros(0, int), encoded[0], np.array(labels), encoded[1], np.zeros(len(crowds), int)
    )


def blocks(size, *boxes):
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def decoded(masks):
    return [None if mask is None else coco_mask.decode(mask) > 0 for mask in masks]


def test_a_map_of_the_images_size_hides_what_lies_below():
    objects = blocks((12, 16), (1, 1, 9, 9), (3, 3, 6, 6), (4, 9, 11, 15))
    found = decoded(perfect_masks(image_masks(objects, [2, 0, 2]), (12, 16), (12, 16)))
    assert (found[0] == objects[0] & ~objects[1]).all()
    assert (found[1] == objects[1]).all() and (found[2] == objects[2]).all()


@pytest.mark.parametrize('stride', [2, 4])
def test_objects_far_apart_are_rounded_to_cells(stride):
    """One class: a pixel is foreground where the interpolated classes of the cells say so, computed by hand along one axis."""
    objects = blocks((16, 32), (0, 3, 16, 13), (0, 24, 16, 32))
    found = decoded(perfect_masks(image_masks(objects, [0, 0]), (16, 32), (16 // stride, 32 // stride)))
    cells = (objects.any(0)[0, stride // 2 :: stride]).astype(float)  # the pixel at the middle of each cell
    position = (np.arange(32) + 0.5) / stride - 0.5
    foreground = np.interp(position, np.arange(len(cells)), cells) > 0.5
    tie = np.isclose(np.interp(position, np.arange(len(cells)), cells), 0.5)
    for mask, part in zip(found, (slice(0, 18), slice(18, 32)), strict=True):
        assert (mask == mask[:1]).all()
        assert (mask[0, part] == foreground[part])[~tie[part]].all()
    assert not found[0][:, 18:].any() and not found[1][:, :18].any()


def test_objects_between_the_cells_are_lost():
    objects = blocks((16, 16), (0, 0, 8, 8), (9, 9, 10, 10))
    found = decoded(perfect_masks(image_masks(objects, [1, 1]), (16, 16), (4, 4)))
    assert found[1] is None and (found[0] == objects[0]).mean() > 0.9


def test_no_objects():
    assert perfect_masks(image_masks([], np.zeros(0, int)), (8, 8), (2, 2)) == []


def test_maps_of_the_truth():
    objects, crowds = blocks((4, 6), (0, 0, 2, 3), (0, 2, 1, 3)), blocks((4, 6), (1, 0, 4, 6))
    class_HW, instance_HW = truth_maps(image_masks(objects, [4, 7], crowds), (4, 6))
    assert instance_HW.tolist() == [
        [1, 1, 2, 0, 0, 0], [1, 1, 1, -1, -1, -1], [-1] * 6, [-1] * 6,
    ]  # fmt: skip
    assert class_HW[0].tolist() == [5, 5, 8, 0, 0, 0] and class_HW[2].tolist() == [255] * 6
