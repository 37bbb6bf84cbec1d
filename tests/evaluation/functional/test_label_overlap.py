"""Measures on label maps against dense plain computations."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from mmseg_instancenet.evaluation.functional.label_overlap import (
    count_splits_and_merges,
    label_overlap,
    match_objects,
    symmetric_best_dice,
)
from mmseg_instancenet.evaluation.functional.mask_overlap import IOU_THRESHOLDS


def masks_of(labels: np.ndarray, counted: np.ndarray) -> list[np.ndarray]:
    return [(labels == label) & counted for label in np.unique(labels[counted]) if label > 0]


def table(truth: np.ndarray, prediction: np.ndarray, measure) -> np.ndarray:
    """``measure`` of (intersection, area, area) for every pair, from one mask each."""
    truths, predictions = (masks_of(labels, truth != -1) for labels in (truth, prediction))
    return np.array([[measure((t & p).sum(), t.sum(), p.sum()) for p in predictions] for t in truths]).reshape(
        len(truths), len(predictions)
    )


def iou_plainly(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return table(truth, prediction, lambda both, one, other: both / (one + other - both))


def best_dice_plainly(truth: np.ndarray, prediction: np.ndarray) -> float:
    dice = table(truth, prediction, lambda both, one, other: 2 * both / (one + other))
    return min(dice.max(1).mean(), dice.max(0).mean())


def match_plainly(iou: np.ndarray, threshold: float) -> tuple[int, float]:
    """Most pairs first, then the largest sum: a pair is worth 1, its IoU less than a pair in all."""
    near = iou >= threshold
    rows, columns = linear_sum_assignment(near + iou * near / (2 * min(iou.shape)), maximize=True)
    chosen = [(row, column) for row, column in zip(rows, columns, strict=True) if near[row, column]]
    return len(chosen), sum(iou[pair] for pair in chosen)


def splits_plainly(truth: np.ndarray, prediction: np.ndarray) -> int:
    counted = truth != -1
    belongs = []
    for mask in masks_of(prediction, counted):
        labels, pixels = np.unique(truth[mask], return_counts=True)
        belongs.append(labels[pixels.argmax()])  # the first of the largest: the lowest label
    return sum(belongs.count(label) >= 2 for label in np.unique(truth) if label > 0)


def random_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A truth of squares with gaps in its labels and ignored pixels, and a prediction that splits, merges and misses."""
    rng = np.random.default_rng(seed)
    squares = np.arange(1, 31).reshape(5, 6)
    truth = np.kron(np.where(rng.random(squares.shape) < 0.2, 0, 3 * squares), np.ones((4, 4), int))
    coarse = np.kron(rng.integers(0, 40, (5, 6)), np.ones((4, 4), int))
    fine = np.kron(np.arange(100, 160).reshape(10, 6), np.ones((2, 4), int))  # halves of squares
    prediction = np.select([rng.random(truth.shape) < 0.05, coarse < 10, coarse < 20], [0, fine, coarse + 1], truth)
    prediction = np.roll(prediction, rng.integers(0, 2), axis=1)
    truth[rng.random(truth.shape) < 0.05] = -1
    return truth, prediction


def check(truth: np.ndarray, prediction: np.ndarray) -> None:
    overlap = label_overlap(truth, prediction)
    iou = iou_plainly(truth, prediction)
    found = np.zeros_like(iou)
    found[overlap.truth_Q, overlap.prediction_Q] = overlap.iou_Q
    np.testing.assert_allclose(found, iou, rtol=1e-12)
    counted = truth != -1
    assert overlap.truth_area_G.tolist() == [mask.sum() for mask in masks_of(truth, counted)]
    assert overlap.prediction_area_K.tolist() == [mask.sum() for mask in masks_of(prediction, counted)]
    assert symmetric_best_dice(overlap) == pytest.approx(best_dice_plainly(truth, prediction))
    for threshold in IOU_THRESHOLDS:
        pairs, total = match_objects(overlap, threshold)
        expected_pairs, expected_total = match_plainly(iou, threshold)
        assert pairs == expected_pairs
        assert total == pytest.approx(expected_total)
    swapped = np.where(counted, prediction, -1), np.where(counted, truth, 0)
    assert count_splits_and_merges(overlap) == (splits_plainly(truth, prediction), splits_plainly(*swapped))


def test_bad_maps_are_refused():
    with pytest.raises(ValueError, match='of one shape'):
        label_overlap(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(ValueError, match='labels >= -1 in the truth, got -2'):
        label_overlap(np.full((2, 3), -2), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match='labels >= 0 in the prediction, got -1'):
        label_overlap(np.zeros((2, 3), int), np.full((2, 3), -1))
    for threshold in (0.4, 1.1):
        with pytest.raises(ValueError, match=r'from 0\.5 to 1'):
            match_objects(label_overlap(np.ones((2, 3), int), np.ones((2, 3), int)), threshold)


@pytest.mark.parametrize('seed', range(8))
def test_random_maps(seed):
    check(*random_maps(seed))


def test_maps_of_nuclei(test_data):
    """A real image against itself moved by two pixels, every fourth nucleus cut in two, others glued together."""
    truth_json = json.loads((test_data / 'dsb2018' / 'val.json').read_text())
    counts = np.bincount([annotation['image_id'] for annotation in truth_json['annotations']])
    image = next(p for p in truth_json['images'] if 20 <= counts[p['id']] <= 60)
    labels = np.zeros((image['height'], image['width']), int)
    for number, annotation in enumerate(a for a in truth_json['annotations'] if a['image_id'] == image['id']):
        labels[coco_mask.decode(annotation['segmentation']) > 0] = number + 1
    moved = np.roll(labels, 2, axis=0)
    cut = np.where((moved % 4 == 1) & (np.arange(labels.shape[1]) % 16 < 8), moved + 1000, moved)
    check(labels, np.where(cut % 4 == 2, 2, cut))


def test_best_dice_by_hand():
    truth = np.array([[1, 1, 1, 1, 2, 2, 0, 0]])
    prediction = np.array([[5, 5, 5, 0, 5, 0, 0, 9]])
    # Truth: 1 has 2 * 3 / 8 with 5, 2 has 2 * 1 / 6; prediction: 5 has 3 / 4, 9 nothing.
    assert symmetric_best_dice(label_overlap(truth, prediction)) == pytest.approx(min((3 / 4 + 1 / 3) / 2, 3 / 8))


def test_two_halves_are_one_pair():
    """Two predicted halves of an object have IoU 0.5 with it each, two halves of a predicted object too."""
    overlap = label_overlap(np.array([[1, 1, 2, 3]]), np.array([[1, 2, 3, 3]]))
    assert match_objects(overlap, 0.5) == (2, 1.0)
    assert match_objects(overlap, 0.55) == (0, 0.0)


def test_splits_and_merges_by_hand():
    truth = np.array([[1, 1, 1, 1, 1, 1, 0, 2, 2, 3, 3, 0, 4, 4, 0, 0]])
    pieces = np.array([[1, 1, 2, 2, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
    assert count_splits_and_merges(label_overlap(truth, pieces)) == (1, 0)  # three pieces are one split
    glued = np.array([[0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 0, 0]])
    assert count_splits_and_merges(label_overlap(truth, glued)) == (0, 1)
    # Two pixels in the background, two in object 4: the background comes first, so nothing is merged or split.
    half = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 6, 6, 5]])
    assert count_splits_and_merges(label_overlap(truth, half)) == (0, 0)


@pytest.mark.parametrize(
    ('truth', 'prediction', 'dice'),
    [([0, 0], [0, 0], 1.0), ([1, 1], [0, 0], 0.0), ([0, 0], [1, 2], 0.0), ([-1, 0], [3, 0], 1.0)],
)
def test_empty_maps(truth, prediction, dice):
    overlap = label_overlap(np.array([truth]), np.array([prediction]))
    assert symmetric_best_dice(overlap) == dice
    assert match_objects(overlap, 0.5) == (0, 0.0)
    assert count_splits_and_merges(overlap) == (0, 0)


def test_table_is_sparse():
    """4000 objects in an image: pairs that overlap, not 4000 x 4000."""
    labels = np.kron(np.arange(1, 4001).reshape(50, 80), np.ones((4, 4), int))
    overlap = label_overlap(labels, labels[:, ::-1].copy())
    assert len(overlap.pixels_Q) == 4000
    assert match_objects(overlap, 0.95) == (4000, 4000.0)
