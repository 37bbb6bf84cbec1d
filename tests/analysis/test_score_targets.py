import numpy as np
import pytest

from mmseg_instancenet.analysis.score_targets import best_iou_of_class


def plain_targets(labels, classes_of, instances, classes):
    values = []
    for k, label in enumerate(classes_of, 1):
        mask = (labels == k) & (instances >= 0)
        if not mask.any():
            values.append(np.nan)
            continue
        best = 0.0
        for g in np.unique(instances[instances > 0]):
            truth = instances == g
            if classes[truth][0] == label:
                best = max(best, (mask & truth).sum() / (mask | truth).sum())
        values.append(best)
    return np.array(values)


@pytest.mark.parametrize('seed', range(6))
def test_equals_loops(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, (8, 9))
    labels[0, :6] = np.arange(6)
    instances = np.kron(rng.choice([-1, 0, 3, 4, 7, 12], (4, 3)), np.ones((2, 3), int))
    classes = np.array([0, 0, 0, 1, 2, 0, 0, 1, 0, 0, 0, 0, 3])[instances.clip(0)]
    classes[instances < 0] = 255
    class_K = rng.integers(1, 4, 5)
    expected = plain_targets(labels, class_K, instances, classes)
    np.testing.assert_allclose(best_iou_of_class(labels, class_K, instances, classes), expected)


def test_an_image_without_objects_and_one_without_instances():
    nothing = np.zeros((2, 3), int)
    assert best_iou_of_class(nothing + 1, np.array([2]), nothing, nothing).tolist() == [0]
    assert best_iou_of_class(nothing, np.zeros(0, int), nothing + 1, nothing + 2).shape == (0,)


def test_all_ignored():
    nothing = np.zeros((2, 3), int)
    assert np.isnan(best_iou_of_class(nothing + 1, np.array([2]), nothing - 1, nothing + 255)).all()
