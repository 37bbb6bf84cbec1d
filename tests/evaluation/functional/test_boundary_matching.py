"""One-to-one matching of boundary pixels against a plain search over all matchings."""

import itertools
import math

import numpy as np
import pytest

from mmseg_instancenet.evaluation.functional.boundary_matching import match_boundaries, thin_boundaries


def best_matching(predicted: np.ndarray, truth: np.ndarray, reach: float) -> tuple[int, float]:
    """Number of pairs and sum of distances of the best matching: most pairs first, tried one after the other."""
    firsts, seconds = list(map(tuple, np.argwhere(predicted))), list(map(tuple, np.argwhere(truth)))
    best = (0, 0.0)
    for count in range(1, min(len(firsts), len(seconds)) + 1):
        sums = []
        for chosen in itertools.combinations(firsts, count):
            for partners in itertools.permutations(seconds, count):
                distances = [math.dist(a, b) for a, b in zip(chosen, partners, strict=True)]
                if max(distances) <= reach:
                    sums.append(sum(distances))
        if sums:
            best = (count, min(sums))
    return best


def one_row(*columns: int) -> np.ndarray:
    row = np.zeros((1, 20), bool)
    row[0, list(columns)] = True
    return row


@pytest.mark.parametrize('reach', [0, -1, float('nan')])
def test_distance_must_be_positive(reach):
    with pytest.raises(ValueError, match='max_distance > 0 pixels'):
        match_boundaries(one_row(1), one_row(1), reach)


def test_maps_of_two_sizes():
    with pytest.raises(ValueError, match=r'one shape \(H, W\), got \(1, 20\) and \(1, 19\)'):
        match_boundaries(one_row(1), one_row(1)[:, 1:], 1)


def test_two_pixels_contest_one():
    predicted, truth = match_boundaries(one_row(4, 7), one_row(5), 3)
    assert np.flatnonzero(predicted).tolist() == [4]  # the nearer one
    assert np.flatnonzero(truth).tolist() == [5]
    predicted, truth = match_boundaries(one_row(5), one_row(4, 7), 3)
    assert np.flatnonzero(predicted).tolist() == [5]
    assert np.flatnonzero(truth).tolist() == [4]


def test_more_pairs_go_before_nearer_ones():
    # 5 lies on 5, but 3 reaches 5 alone: 3-5 and 5-7 are two pairs.
    predicted, truth = match_boundaries(one_row(3, 5), one_row(5, 7), 2)
    assert predicted.sum() == truth.sum() == 2


def test_the_same_place_is_a_match():
    lines = np.random.default_rng(0).random((30, 40)) < 0.3
    predicted, truth = match_boundaries(lines, lines, 1)
    np.testing.assert_array_equal(predicted, lines)
    np.testing.assert_array_equal(truth, lines)


def test_distance_is_euclidean_and_inclusive():
    first, second = np.zeros((5, 5), bool), np.zeros((5, 5), bool)
    first[0, 0] = second[3, 4] = True
    assert match_boundaries(first, second, 5)[0].sum() == 1
    assert match_boundaries(first, second, 4.99)[0].sum() == 0


@pytest.mark.parametrize('first, second', [((), ()), ((3,), ()), ((), (3,)), ((1,), (15,))])
def test_nothing_to_match(first, second):
    predicted, truth = match_boundaries(one_row(*first), one_row(*second), 2)
    assert predicted.sum() == truth.sum() == 0
    assert predicted.dtype == truth.dtype == bool


@pytest.mark.parametrize('seed', range(12))
def test_against_all_matchings(seed):
    rng = np.random.default_rng(seed)
    predicted, truth = np.zeros((6, 7), bool), np.zeros((6, 7), bool)
    predicted.flat[rng.choice(42, rng.integers(2, 6), replace=False)] = True
    truth.flat[rng.choice(42, rng.integers(2, 6), replace=False)] = True
    reach = float(rng.uniform(1, 3))
    count, distance = best_matching(predicted, truth, reach)
    matched_predicted, matched_truth = match_boundaries(predicted, truth, reach)
    assert matched_predicted.sum() == matched_truth.sum() == count
    assert not (matched_predicted & ~predicted).any()
    assert not (matched_truth & ~truth).any()
    # The chosen pixels alone have a matching of that distance.
    assert best_matching(matched_predicted, matched_truth, reach) == (count, pytest.approx(distance))


def test_matching_is_symmetric_in_number():
    rng = np.random.default_rng(3)
    first, second = rng.random((50, 60)) < 0.1, rng.random((50, 60)) < 0.03
    assert match_boundaries(first, second, 3)[0].sum() == match_boundaries(second, first, 3)[0].sum()


def test_thinning():
    bar = np.zeros((9, 12), bool)
    bar[3:6, 1:11] = True
    thinned = thin_boundaries(bar)
    assert np.flatnonzero(thinned.any(1)).tolist() == [4]  # the middle row
    assert (thinned.sum(0) <= 1).all()
    assert thinned.sum() >= 8
    np.testing.assert_array_equal(thin_boundaries(thinned), thinned)
