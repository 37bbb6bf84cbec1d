"""``CountingMetric`` by hand."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.registry import METRICS

from mmseg_instancenet.evaluation import CountingMetric


def sample(truth: list[int], prediction: list[int]) -> dict:
    return {
        'gt_instance_map': {'data': torch.tensor([[truth]])},
        'pred_instance_map': {'data': torch.tensor([[prediction]])},
    }


def evaluate(samples: list[dict]) -> dict[str, float]:
    metric = METRICS.build(dict(type='CountingMetric'))
    metric.process({}, samples)
    figures = metric.evaluate(len(samples))
    assert all(key.startswith('counting/') for key in figures)
    return {key[len('counting/') :]: value for key, value in figures.items()}


def test_missing_truth_and_resized_truth_are_named():
    metric = CountingMetric()
    prediction_only = sample([1], [1])
    del prediction_only['gt_instance_map']
    with pytest.raises(KeyError, match='MasksToMaps'):
        metric.process({}, [prediction_only])
    with pytest.raises(
        ValueError, match=r'size \(1, 2\) of pred_instance_map.*got \(1, 3\).*LoadInstanceMasks comes after'
    ):
        metric.process({}, [sample([1, 1, 1], [1, 1])])


def test_by_hand():
    """Image 1: object 1 found with IoU 3 / 4, object 2 cut into halves. Image 2: two objects glued together. The
    last pixel of each is ignored.
    """
    figures = evaluate(
        [
            sample([1, 1, 1, 1, 0, 2, 2, 2, 2, -1], [1, 1, 1, 0, 0, 2, 2, 3, 3, 3]),
            sample([4, 4, 7, 7, -1], [1, 1, 1, 1, 2]),
        ]
    )
    # Image 1: of truth 6/7 and 2/3, of prediction 6/7, 2/3, 2/3. Image 2: 2 * 2 / 6 both ways.
    assert figures['SBD'] == pytest.approx((min((6 / 7 + 2 / 3) / 2, (6 / 7 + 2 * 2 / 3) / 3) + 2 / 3) / 2)
    assert figures['DiC'] == 0  # one too many, one too few
    assert figures['abs_DiC'] == 1
    assert (figures['splits'], figures['merges']) == (1, 1)
    # 4 objects, 4 predicted. At 0.5: 3 / 4, one half of object 2, and one object of image 2: three pairs.
    assert figures['precision_50'] == figures['recall_50'] == figures['F1_50'] == 3 / 4
    assert figures['accuracy_50'] == 3 / 5
    assert figures['PQ_50'] == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 4)
    for threshold in (55, 60, 65, 70, 75):
        assert figures[f'precision_{threshold}'] == 1 / 4
        assert figures[f'accuracy_{threshold}'] == 1 / 7
        assert figures[f'PQ_{threshold}'] == pytest.approx(3 / 16)
    for name in ('precision', 'recall', 'F1', 'accuracy', 'PQ'):
        assert [figures[f'{name}_{threshold}'] for threshold in (80, 85, 90, 95)] == [0] * 4
    assert figures['mean_accuracy'] == pytest.approx((3 / 5 + 5 / 7) / 10)
    assert len(figures) == 5 + 5 * 10 + 1


def test_counts_are_summed_over_the_data_set():
    """One image with one object found, one with three missed: recall 1/4, not the mean of 1 and 0."""
    figures = evaluate([sample([1, 1, 0, 0], [1, 1, 0, 0]), sample([1, 2, 3, 0], [0, 0, 0, 9])])
    assert figures['recall_50'] == 1 / 4
    assert figures['precision_50'] == 1 / 2
    assert figures['F1_50'] == 2 * 1 / (4 + 2)
    assert figures['accuracy_50'] == 1 / 5
    assert figures['PQ_50'] == 1 / (1 + 1 / 2 + 3 / 2)
    assert figures['SBD'] == 1 / 2
    assert (figures['DiC'], figures['abs_DiC']) == (-1, 1)


def test_empty_images():
    figures = evaluate([sample([0, 0], [0, 0])])
    assert figures['SBD'] == 1
    assert figures['abs_DiC'] == figures['accuracy_50'] == figures['PQ_50'] == 0
    figures = evaluate([sample([0, 0], [1, 0]), sample([1, 0], [0, 0]), sample([0, 0], [0, 0])])
    assert figures['SBD'] == pytest.approx(1 / 3)
    assert (figures['DiC'], figures['abs_DiC']) == (0, pytest.approx(2 / 3))


def test_perfect_image_of_many_objects():
    labels = np.arange(300).repeat(2).tolist()
    figures = evaluate([sample(labels, [0 if label == 0 else 300 - label for label in labels])])
    assert all(figures[f'{name}_95'] == 1 for name in ('precision', 'recall', 'F1', 'accuracy', 'PQ'))
    assert figures['SBD'] == figures['mean_accuracy'] == 1
    assert figures['abs_DiC'] == figures['splits'] == figures['merges'] == 0


def test_data_samples_of_the_runner():
    data_sample = DetDataSample(metainfo={'img_id': 1})
    for name, labels in (('gt_instance_map', [[1, 1, 2, 2]]), ('pred_instance_map', [[1, 1, 1, 1]])):
        data_sample.set_field(PixelData(data=torch.tensor([labels])), name, dtype=PixelData)
    evaluator = Evaluator([dict(type='CountingMetric')])
    evaluator.process([data_sample], {})
    figures = evaluator.evaluate(1)
    assert figures['counting/merges'] == 1
    assert figures['counting/abs_DiC'] == 1
