"""``average_precision`` against the definition, recall by recall."""

import numpy as np
import pytest

from mmseg_instancenet.evaluation.functional.mask_overlap import average_precision


def area_plainly(hits: list[bool], count: int) -> float:
    recalls, precisions = [0.0], []
    for ranked in range(1, len(hits) + 1):
        recalls.append(sum(hits[:ranked]) / count)
        precisions.append(sum(hits[:ranked]) / ranked)
    return sum((recalls[ranked + 1] - recalls[ranked]) * max(precisions[ranked:]) for ranked in range(len(hits)))


@pytest.mark.parametrize(
    ('hits', 'count', 'expected'),
    [
        ([True, True], 2, 1.0),
        ([True, False], 4, 1 / 4),  # what is not found has precision 0
        ([False, True], 1, 1 / 2),
        ([False, False], 3, 0.0),
        ([], 3, 0.0),
        ([True, False, False, True, True], 4, (1 + 3 / 5 + 3 / 5) / 4),  # 2 / 4 is lifted to 3 / 5
    ],
)
def test_by_hand(hits, count, expected):
    assert average_precision(np.array(hits, bool), count) == pytest.approx(expected)


def test_random_lists():
    rng = np.random.default_rng(0)
    for length in (1, 10, 300):
        hits = rng.random(length) < 0.4
        count = int(hits.sum()) + int(rng.integers(1, 20))
        assert average_precision(hits, count) == pytest.approx(area_plainly(hits.tolist(), count))


def test_without_objects_it_is_not_defined():
    assert np.isnan(average_precision(np.array([False]), 0))
    assert np.isnan(average_precision(np.zeros(0, bool), 0))
