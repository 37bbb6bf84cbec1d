"""``TrimapIoUMetric`` against hand counts and against plain loops."""

import numpy as np
import pytest
import torch
from mmseg.registry import METRICS

from mmseg_instancenet.evaluation import ForegroundIoUMetric, TrimapIoUMetric
from mmseg_instancenet.evaluation.metrics.trimap_iou_metric import band_counts, boundary_distance, mean_iou


def sample(predicted: np.ndarray, truth: np.ndarray) -> dict:
    return {
        'pred_sem_seg': {'data': torch.from_numpy(predicted)[None]},
        'gt_sem_seg': {'data': torch.from_numpy(truth)[None]},
    }


def metrics(metric, pairs: list[tuple[np.ndarray, np.ndarray]], count: int) -> dict[str, float]:
    metric.dataset_meta = {'classes': tuple(map(str, range(1, count)))}
    metric.process({}, [sample(*pair) for pair in pairs])
    return metric.evaluate(len(pairs))


def loop_distance(truth: np.ndarray) -> np.ndarray:
    """Every pixel against every other."""
    height, width = truth.shape
    border = []
    for y in range(height):
        for x in range(width):
            near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            near = [truth[a, b] for a, b in near if 0 <= a < height and 0 <= b < width]
            if truth[y, x] != 255 and any(label != truth[y, x] for label in near):
                border.append((y, x))
    distance = np.full(truth.shape, np.inf)
    for y in range(height):
        for x in range(width):
            if truth[y, x] != 255 and border:
                distance[y, x] = 1 + min(np.hypot(y - a, x - b) for a, b in border)
    return distance


def loop_curve(pairs: list[tuple[np.ndarray, np.ndarray]], count: int, max_width: int) -> list[float]:
    curve = []
    distances = [loop_distance(truth) for _, truth in pairs]
    for width in range(1, max_width + 1):
        matrix = np.zeros((count, count), int)
        for (predicted, truth), distance in zip(pairs, distances, strict=True):
            for y, x in np.argwhere(distance <= width):
                matrix[truth[y, x], predicted[y, x]] += 1
        union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
        ious = [np.diag(matrix)[c] / union[c] for c in range(count) if union[c]]
        curve.append(100 * sum(ious) / len(ious) if ious else float('nan'))
    return curve


def random_pairs(count: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    """Blocks of classes, a predicted map that is often wrong, void here and there."""
    rng = np.random.default_rng(0)
    pairs = []
    for height, width in ((24, 31), (17, 40)):
        truth = rng.integers(0, count, (4, 4)).repeat(10, 0).repeat(10, 1)[:height, :width]
        predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, count, truth.shape))
        truth[rng.random(truth.shape) < 0.02] = 255
        pairs.append((predicted, truth))
    return pairs


@pytest.mark.parametrize('options', [{'max_width': 0}, {'max_width': 5}, {'reported': (0, 3)}])
def test_widths_that_do_not_fit(options):
    with pytest.raises(ValueError, match='expected 1 <= reported widths <= max_width'):
        TrimapIoUMetric(**options)


def test_maps_that_do_not_fit():
    truth = np.array([[0, 0, 1, 1]])
    with pytest.raises(ValueError, match=r'expected pred_sem_seg of the size \(1, 4\) of gt_sem_seg, got \(2, 4\)'):
        band_counts(np.zeros((2, 4), int), truth, 2, 3)
    with pytest.raises(ValueError, match='expected predicted classes 0 .. 1, got 0 .. 2'):
        band_counts(np.array([[0, 0, 1, 2]]), truth, 2, 3)
    with pytest.raises(ValueError, match='expected true classes 0 .. 1, got 0 .. 5'):
        band_counts(truth, np.array([[0, 0, 1, 5]]), 2, 3)


def test_counted_by_hand():
    """Void is pixel 4. Distances are 4 3 2 1 - 1 2 3; pixels 3 and 5 are wrong.

    width 1: pixels 3, 5: none right.            IoU 0, 0
    width 2: 2, 6 are right.                     IoU of either class 1 / 3
    width 3: 1, 7 are right.                     IoU of either class 2 / 4
    width 4: 0 is right.                         IoU 3 / 5 and 2 / 4
    """
    truth = np.array([[0, 0, 0, 0, 255, 1, 1, 1]])
    predicted = np.array([[0, 0, 0, 1, 1, 0, 1, 1]])
    counts = band_counts(predicted, truth, 2, 4)
    assert counts[0].tolist() == [[0, 0], [1, 1], [2, 2], [3, 2]]
    assert counts[1].tolist() == [[1, 1], [2, 2], [3, 3], [4, 3]]
    assert counts[2].tolist() == [[1, 1], [2, 2], [3, 3], [4, 3]]
    assert mean_iou(counts).tolist() == pytest.approx([0, 100 / 3, 50, 55])


def test_distance_against_plain_loops():
    for _, truth in random_pairs():
        np.testing.assert_allclose(boundary_distance(truth), loop_distance(truth), rtol=1e-6)


def test_curve_against_plain_loops():
    pairs, widths = random_pairs(), tuple(range(1, 9))
    found = metrics(TrimapIoUMetric(max_width=8, reported=widths), pairs, 4)
    assert [found[f'trimap/mIoU_{width}'] for width in widths] == pytest.approx(loop_curve(pairs, 4, 8), abs=0.006)


def test_a_band_over_everything_is_the_miou():
    pairs = random_pairs()
    found = metrics(TrimapIoUMetric(max_width=60, reported=(60,)), pairs, 4)
    assert found['trimap/mIoU_60'] == pytest.approx(metrics(ForegroundIoUMetric(), pairs, 4)['mIoU'], abs=0.01)


def test_what_is_predicted_on_void_does_not_count():
    pairs = random_pairs()
    changed = [(np.where(truth == 255, 3 - predicted, predicted), truth) for predicted, truth in pairs]
    assert any((a[0] != b[0]).any() for a, b in zip(pairs, changed, strict=True))
    assert metrics(TrimapIoUMetric(), pairs, 4) == metrics(TrimapIoUMetric(), changed, 4)


def test_an_image_without_a_boundary_has_no_band():
    plain = (np.ones((9, 9), int), np.zeros((9, 9), int))
    assert np.isinf(boundary_distance(plain[1])).all()
    assert np.isnan(metrics(TrimapIoUMetric(), [plain], 2)['trimap/mIoU_40'])
    pairs = random_pairs()
    assert metrics(TrimapIoUMetric(), [*pairs, plain], 4) == metrics(TrimapIoUMetric(), pairs, 4)
    void = (np.zeros((9, 9), int), np.full((9, 9), 255))
    assert metrics(TrimapIoUMetric(), [*pairs, void], 4) == metrics(TrimapIoUMetric(), pairs, 4)


def test_the_curve_has_all_widths():
    pairs = random_pairs()
    found = metrics(METRICS.build(dict(type='TrimapIoUMetric', max_width=8, reported=(3,))), pairs, 4)
    assert list(found) == ['trimap/mIoU_3', 'trimap/curve']
    (x_label, widths), (y_label, values) = found['trimap/curve'].items()
    assert (x_label, y_label) == ('pixels on each side of a boundary', 'mIoU, %')
    assert widths == list(range(1, 9)) and values == pytest.approx(loop_curve(pairs, 4, 8), abs=0.006)
