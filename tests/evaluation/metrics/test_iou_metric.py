"""``ForegroundIoUMetric`` against a confusion matrix."""

import numpy as np
import pytest
import torch

from mmseg_instancenet.evaluation import ForegroundIoUMetric


def sample(predicted: np.ndarray, truth: np.ndarray) -> dict:
    return {
        'pred_sem_seg': {'data': torch.from_numpy(predicted)[None]},
        'gt_sem_seg': {'data': torch.from_numpy(truth)[None]},
    }


def metrics(pairs: list[tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...]) -> dict[str, float]:
    metric = ForegroundIoUMetric()
    metric.dataset_meta = {'classes': classes}
    for predicted, truth in pairs:
        metric.process({}, [sample(predicted, truth)])
    return metric.evaluate(len(pairs))


def confusion(pairs: list[tuple[np.ndarray, np.ndarray]], count: int) -> np.ndarray:
    """Rows: truth, columns: prediction; pixels with truth 255 are left out."""
    matrix = np.zeros((count, count), int)
    for predicted, truth in pairs:
        for p, t in zip(predicted.ravel().tolist(), truth.ravel().tolist(), strict=True):
            if t != 255:
                matrix[t, p] += 1
    return matrix


def test_mean_iou_counts_the_background_and_leaves_out_ignored_pixels():
    rng = np.random.default_rng(0)
    pairs = []
    for height, width in ((20, 31), (17, 9)):
        truth = rng.integers(0, 5, (height, width))
        predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 5, truth.shape))
        truth[rng.random(truth.shape) < 0.2] = 255
        pairs.append((predicted, truth))
    matrix = confusion(pairs, 5)
    hit = np.diag(matrix)
    iou = hit / (matrix.sum(0) + matrix.sum(1) - hit)
    found = metrics(pairs, ('a', 'b', 'c', 'd'))
    assert found['mIoU'] == pytest.approx(100 * iou.mean(), abs=0.006)
    assert found['mAcc'] == pytest.approx(100 * (hit / matrix.sum(1)).mean(), abs=0.006)
    assert found['aAcc'] == pytest.approx(100 * hit.sum() / matrix.sum(), abs=0.006)
    # mmseg's own count, without the background in the list of classes, would be another.
    assert abs(found['mIoU'] - 100 * iou[:4].mean()) > 0.05


def test_last_class_counts():
    truth = np.array([[0, 1, 2, 2]])
    found = metrics([(np.array([[0, 1, 1, 2]]), truth)], ('a', 'b'))
    assert found['mIoU'] == pytest.approx(100 * (1 + 1 / 2 + 1 / 2) / 3, abs=0.006)


def test_class_that_occurs_nowhere_does_not_count():
    found = metrics([(np.array([[0, 1, 1, 0]]), np.array([[0, 1, 255, 1]]))], ('a', 'never', 'nor this'))
    assert found['mIoU'] == pytest.approx(100 * (1 / 2 + 1 / 2) / 2, abs=0.006)


def test_classes_of_the_data_set_are_left_as_they_are():
    meta = {'classes': ('a', 'b')}
    metric = ForegroundIoUMetric()
    metric.dataset_meta = meta
    assert meta == {'classes': ('a', 'b')}
    assert metric.dataset_meta['classes'] == ('background', 'a', 'b')
