"""Overlaps and greedy matching against plain loops."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from references.mask_cases import encode

from mmseg_instancenet.evaluation.functional.mask_overlap import IOU_THRESHOLDS, mask_iou, match_greedily


def match_plainly(iou: list[list[float]], threshold: float) -> list[bool]:
    taken, hits = set(), []
    for row in iou:
        best = None
        for index, value in enumerate(row):
            if index not in taken and (best is None or value > row[best]):
                best = index
        hits.append(best is not None and row[best] >= threshold)
        if hits[-1]:
            taken.add(best)
    return hits


def test_thresholds_are_those_that_one_would_write():
    assert IOU_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_masks_of_unequal_sizes_are_refused():
    with pytest.raises(ValueError, match=r'of one size, got \[\(1, 3\), \(1, 4\)\]'):
        mask_iou([encode('##..')], [encode('##.')])


@pytest.mark.parametrize('threshold', [0.0, -0.5, 1.5])
def test_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match=r'in \(0, 1\]'):
        match_greedily(np.ones((1, 1)), [0.5, threshold])


def test_overlaps_of_random_masks():
    rng = np.random.default_rng(0)
    maps = rng.random((7, 9, 13)) < 0.5
    masks = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in maps]
    iou, inside = mask_iou(masks[:4], masks[4:]), mask_iou(masks[:4], masks[4:], crowd=True)
    for row in range(4):
        for column in range(3):
            both = (maps[row] & maps[4 + column]).sum()
            assert iou[row, column] == both / (maps[row] | maps[4 + column]).sum()
            assert inside[row, column] == both / maps[row].sum()


@pytest.mark.parametrize('counts', [(0, 3), (3, 0), (0, 0)])
def test_no_masks(counts):
    masks, objects = ([encode('##..')] * count for count in counts)
    assert mask_iou(masks, objects).shape == counts
    assert match_greedily(mask_iou(masks, objects), [0.5, 0.7]).tolist() == [[False] * counts[0]] * 2


def test_matching_of_random_overlaps():
    rng = np.random.default_rng(1)
    for count, objects in ((30, 12), (5, 40), (1, 1), (25, 25)):
        iou = rng.random((count, objects)).round(2)
        matched = match_greedily(iou, IOU_THRESHOLDS)
        for hits, threshold in zip(matched.tolist(), IOU_THRESHOLDS, strict=True):
            assert hits == match_plainly(iou.tolist(), threshold)


def test_detection_whose_best_object_is_taken_finds_the_next_one():
    """VOC's rule for boxes would call the second a duplicate."""
    assert match_greedily(np.array([[0.9, 0.1], [0.8, 0.6]]), [0.5]).tolist() == [[True, True]]


def test_match_needs_the_threshold_itself():
    assert match_greedily(np.array([[0.6]]), [0.55, 0.6, 0.65]).tolist() == [[True], [True], [False]]
