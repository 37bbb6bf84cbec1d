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
    metrics = metric.evaluate(len(samples))
    assert all(key.startswith('counting/') for key in metrics)
    return {key[len('counting/') :]: value for key, value in metrics.items()}


def test_missing_truth_and_resized_truth_are_named():
    metric = CountingMetric()
    prediction_only = sample([1], [1])
    del prediction_only['gt_instance_map']
    with pytest.raises(KeyError, match='MasksToMaps'):
        metric.process({}, [prediction_only])
    with pytest.raises(
        ValueError, match=r'size \(1, 2\) of pred_instance_map.*got \(1, 3\).*LoadInstanceMasks after the resize'
    ):
        metric.process({}, [sample([1, 1, 1], [1, 1])])


def test_by_hand():
    """Image 1: object 1 found with IoU 3 / 4, object 2 cut into halves. Image 2: two objects glued together. The
    last pixel of each is ignored.
    """
    metrics = evaluate(
        [
            sample([1, 1, 1, 1, 0, 2, 2, 2, 2, -1], [1, 1, 1, 0, 0, 2, 2, 3, 3, 3]),
            sample([4, 4, 7, 7, -1], [1, 1, 1, 1, 2]),
        ]
    )
    # Image 1: of truth 6/7 and 2/3, of prediction 6/7, 2/3, 2/3. Image 2: 2 * 2 / 6 both ways.
    assert metrics['SBD'] == pytest.approx((min((6 / 7 + 2 / 3) / 2, (6 / 7 + 2 * 2 / 3) / 3) + 2 / 3) / 2)
    assert metrics['DiC'] == 0  # one too many, one too few
    assert metrics['abs_DiC'] == 1
    assert (metrics['splits'], metrics['merges']) == (1, 1)
    # 4 objects, 4 predicted. At 0.5: 3 / 4, one half of object 2, and one object of image 2: three pairs.
    assert metrics['precision_50'] == metrics['recall_50'] == metrics['F1_50'] == 3 / 4
    assert metrics['accuracy_50'] == 3 / 5
    assert metrics['PQ_50'] == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 4)
    for threshold in (55, 60, 65, 70, 75):
        assert metrics[f'precision_{threshold}'] == 1 / 4
        assert metrics[f'accuracy_{threshold}'] == 1 / 7
        assert metrics[f'PQ_{threshold}'] == pytest.approx(3 / 16)
    for name in ('precision', 'recall', 'F1', 'accuracy', 'PQ'):
        assert [metrics[f'{name}_{threshold}'] for threshold in (80, 85, 90, 95)] == [0] * 4
    assert metrics['mean_accuracy'] == pytest.approx((3 / 5 + 5 / 7) / 10)
    assert len(metrics) == 5 + 5 * 10 + 1


def test_counts_are_summed_over_the_data_set():
    """One image with one object found, one with three missed: recall 1/4, not the mean of 1 and 0."""
    metrics = evaluate([sample([1, 1, 0, 0], [1, 1, 0, 0]), sample([1, 2, 3, 0], [0, 0, 0, 9])])
    assert metrics['recall_50'] == 1 / 4
    assert metrics['precision_50'] == 1 / 2
    assert metrics['F1_50'] == 2 * 1 / (4 + 2)
    assert metrics['accuracy_50'] == 1 / 5
    assert metrics['PQ_50'] == 1 / (1 + 1 / 2 + 3 / 2)
    assert metrics['SBD'] == 1 / 2
    assert (metrics['DiC'], metrics['abs_DiC']) == (-1, 1)


def test_empty_images():
    metrics = evaluate([sample([0, 0], [0, 0])])
    assert metrics['SBD'] == 1
    assert metrics['abs_DiC'] == metrics['accuracy_50'] == metrics['PQ_50'] == 0
    metrics = evaluate([sample([0, 0], [1, 0]), sample([1, 0], [0, 0]), sample([0, 0], [0, 0])])
    assert metrics['SBD'] == pytest.approx(1 / 3)
    assert (metrics['DiC'], metrics['abs_DiC']) == (0, pytest.approx(2 / 3))


def test_perfect_image_of_many_objects():
    labels = np.arange(300).repeat(2).tolist()
    metrics = evaluate([sample(labels, [0 if label == 0 else 300 - label for label in labels])])
    assert all(metrics[f'{name}_95'] == 1 for name in ('precision', 'recall', 'F1', 'accuracy', 'PQ'))
    assert metrics['SBD'] == metrics['mean_accuracy'] == 1
    assert metrics['abs_DiC'] == metrics['splits'] == metrics['merges'] == 0


def test_data_samples_of_the_runner():
    data_sample = DetDataSample(metainfo={'img_id': 1})
    for name, labels in (('gt_instance_map', [[1, 1, 2, 2]]), ('pred_instance_map', [[1, 1, 1, 1]])):
        data_sample.set_field(PixelData(data=torch.tensor([labels])), name, dtype=PixelData)
    evaluator = Evaluator([dict(type='CountingMetric')])
    evaluator.process([data_sample], {})
    metrics = evaluator.evaluate(1)
    assert metrics['counting/merges'] == 1
    assert metrics['counting/abs_DiC'] == 1


def test_the_table_has_a_line_for_each_threshold(monkeypatch):
    lines = []
    monkeypatch.setattr('mmengine.logging.MMLogger.info', lambda self, message: lines.append(message))
    evaluate([sample([1, 1, 1, 1, 0], [1, 1, 1, 0, 0])])
    (text,) = lines
    assert text.startswith('1 objects, 1 predicted\n')
    table = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if '|' in line]
    assert table[0] == ['IoU', 'precision', 'recall', 'F1', 'accuracy', 'PQ']
    assert table[1] == ['0.5', '1.000', '1.000', '1.000', '1.000', '0.750']
    assert table[10] == ['0.95', '0.000', '0.000', '0.000', '0.000', '0.000'] and len(table) == 11
