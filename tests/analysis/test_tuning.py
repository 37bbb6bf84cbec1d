"""Accuracy against a cut of the scores by brute force, and the search on curves by hand."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from mmseg_instancenet.analysis.tuning import ImageMatches, best_value, counting_metrics, match_image, search_settings
from mmseg_instancenet.evaluation.functional.mask_overlap import IOU_THRESHOLDS


def plain_pairs(truth, prediction, threshold):
    """Most pairs with enough IoU, and the numbers of both sides, from a dense table of masks."""
    counted = truth >= 0
    objects = [truth == label for label in np.unique(truth[truth > 0])]
    found = [(prediction == label) & counted for label in np.unique(prediction[counted & (prediction > 0)])]
    near = np.array([[(a & b).sum() / (a | b).sum() >= threshold for b in found] for a in objects], float)
    near = near.reshape(len(objects), len(found))
    rows, columns = linear_sum_assignment(-near)
    return int(near[rows, columns].sum()), len(objects), len(found)


def scenes(seed):
    """Maps of blocks with crowds and gaps in the labels, many of whose IoU are exactly one half, and scores with equals."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(4):
        truth = np.kron(rng.choice([-1, 0, 2, 3, 9], (3, 3)), np.ones((2, 4), int))
        prediction = np.kron(rng.integers(0, 9, (3, 6)), np.ones((2, 2), int))
        noise = rng.random(truth.shape) < 0.1
        prediction[noise] = rng.integers(0, 9, noise.sum())
        prediction[0, :8] = np.arange(1, 9)  # without gaps
        images.append((truth, prediction, rng.choice([0.1, 0.3, 0.5, 0.7, 0.9], 8).astype(np.float32)))
    return images


@pytest.mark.parametrize('seed', range(10))
@pytest.mark.parametrize('thresholds', [(0.5,), tuple(IOU_THRESHOLDS)], ids=['50', 'mean'])
def test_the_curve_over_the_cut_equals_brute_force(seed, thresholds):
    images = scenes(seed)
    matches = [match_image(*image) for image in images]
    for cut in (0.0, 0.1, 0.3, 0.35, 0.5, 0.7, 0.9, 0.95):
        left = [
            (truth, np.where(np.append(False, score >= np.float32(cut))[prediction], prediction, 0))
            for truth, prediction, score in images
        ]
        accuracy = []
        for threshold in thresholds:
            counts = np.array([plain_pairs(*image, threshold) for image in left])
            pairs, true, predicted = counts.sum(0)
            accuracy.append(pairs / (true + predicted - pairs))
        metrics = counting_metrics(matches, cut, thresholds)
        assert metrics.accuracy == pytest.approx(np.mean(accuracy), abs=1e-12)
        assert (metrics.true, metrics.predicted) == (true, predicted)
        assert metrics.count_error == pytest.approx(np.abs(counts[:, 2] - counts[:, 1]).mean())


def test_of_two_halves_the_one_with_the_higher_score_is_paired():
    truth, prediction = np.array([[4, 4, 4, 4]]), np.array([[1, 1, 2, 2]])
    assert match_image(truth, prediction, np.array([0.9, 0.2])).iou_K.tolist() == [0.5, 0]
    assert match_image(truth, prediction, np.array([0.2, 0.9])).iou_K.tolist() == [0, 0.5]
    # Two objects in one instance: one pair.
    both = match_image(prediction, truth // 4, np.array([0.3]))
    assert both.iou_K.tolist() == [0.5] and both.truths == 2


def test_instances_on_ignored_pixels_are_not_counted_and_scores_keep_their_places():
    truth, prediction = np.array([[-1, -1, 7, 7, 0]]), np.array([[1, 1, 2, 2, 3]])
    matches = match_image(truth, prediction, np.array([0.9, 0.5, 0.1], np.float32))
    assert matches.score_K.tolist() == pytest.approx([0.5, 0.1]) and matches.iou_K.tolist() == [1, 0]


def test_the_ends_of_the_curve():
    nothing = match_image(np.zeros((2, 3), int), np.zeros((2, 3), int), np.zeros(0, np.float32))
    assert counting_metrics([nothing, nothing]) == (0, 0, 0, 0)
    # A fitted score may lie below 0; a cut of 0 keeps it, and a score of float32 is compared as the model compares it.
    matches = [ImageMatches(np.array([-0.1, 0.7], np.float32), np.array([0.8, 0.6]), 3)]
    assert counting_metrics(matches).predicted == 2
    assert counting_metrics(matches, 0.7) == (pytest.approx(1 / 3), 1, 3, 2)
    assert counting_metrics(matches, 0.75) == (0, 0, 3, 3)


def test_of_equal_values_the_nearest_to_the_preferred_one():
    aims = {1: 0.5, 4: 0.7, 8: 0.7, 16: 0.7, 32: 0.7, 64: 0.6}
    assert best_value(aims, 8) == 8
    assert best_value(aims, 1) == 4
    assert best_value(aims, 100) == 32
    assert best_value(aims, 12) == 8  # as near as 16: the smaller
    assert best_value({1: 0.66, 2: 0.668, 4: 0.6}, 1) == 2
    assert best_value({1: 0.66, 2: 0.668, 4: 0.6}, 1, tolerance=0.01) == 1
    assert best_value({1: 0.65, 2: 0.668, 4: 0.6}, 1, tolerance=0.01) == 2


def test_the_search_goes_along_one_setting_after_the_other():
    asked = []

    def curve(name, settings):
        asked.append((name, dict(settings)))
        values = {'a': range(6), 'b': range(6)}[name]
        # A ridge: the best a is b, the best b is between a and 4.
        return {v: -abs(s['a'] - s['b']) - abs(s['b'] - 4) * 1.5 for v in values for s in [settings | {name: v}]}

    assert search_settings(curve, {'a': 1, 'b': 1}, rounds=5) == {'a': 4, 'b': 4}
    assert asked[:4] == [
        ('a', {'a': 1, 'b': 1}),
        ('b', {'a': 1, 'b': 1}),
        ('a', {'a': 1, 'b': 4}),
        ('b', {'a': 4, 'b': 4}),
    ]
    assert len(asked) == 6  # the third round changes nothing
    assert search_settings(curve, {'a': 1, 'b': 1}, rounds=1) == {'a': 1, 'b': 4}
    asked.clear()
    assert search_settings(curve, {'a': 4, 'b': 4}) == {'a': 4, 'b': 4} and len(asked) == 2
    assert search_settings(curve, {'a': 1, 'b': 1}, rounds=5, tolerance=1000) == {'a': 1, 'b': 1}
