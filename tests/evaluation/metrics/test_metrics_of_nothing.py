"""Every metric without images, and on images without objects and detections: a line in the log and a value."""

import logging
import math

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmseg.registry import METRICS
from references.mask_cases import predict_rows, write_rows

CLASSES = ('cat', 'dog')
AP = [f'{kind}_{name}' for kind in ('segm', 'bbox') for name in ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')]
METRICS_AND_LINES = {
    'CocoInstanceMetric': 'no image was evaluated: every AP is NaN',
    'RegionAveragePrecisionMetric': '0 images were evaluated, and their ground truth has no object: AP^r is NaN',
    'ProposalRecallMetric': '0 images were evaluated, and their ground truth has no object: recall is NaN',
    'TrimapIoUMetric': '0 images were evaluated, and none has a boundary between classes: the trimap mIoU is NaN',
    'CountingMetric': 'no image was evaluated: every metric of CountingMetric is NaN',
    'ForegroundIoUMetric': 'no image was evaluated: the class IoU is NaN',
    'BoundaryMetric': 'no image was evaluated: every metric of BoundaryMetric is 0',
}


@pytest.fixture
def warned():
    """The warnings in MMEngine's log."""
    lines, handler = [], logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)  # runners of other tests may have set it to more
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def build(name, folder):
    metric = METRICS.build({'type': name})
    metric.dataset_meta = {'classes': CLASSES}
    if hasattr(metric, 'ann_file'):
        metric.ann_file = write_rows(folder, {1: [], 2: []}, CLASSES)
    return metric


def empty_sample(image_id):
    zeros_1HW = torch.zeros(1, 1, 10, dtype=torch.long)
    names = ('gt_instance_map', 'pred_instance_map', 'gt_sem_seg', 'pred_sem_seg')
    sample = predict_rows(image_id, []) | {name: {'data': zeros_1HW} for name in names}
    return sample | {'pred_boundary': {'data': zeros_1HW.float()}, 'gt_boundaries': {'data': zeros_1HW.bool()}}


def numbers_of(metrics):
    """The values without the curves, whose values are their second columns on."""
    return {key: value for key, value in metrics.items() if not key.endswith('curve')}


@pytest.mark.filterwarnings('ignore:Mean of empty slice')  # numpy, in mmseg
@pytest.mark.parametrize(('name', 'line'), METRICS_AND_LINES.items())
def test_no_image(name, line, tmp_path, warned):
    metric = build(name, tmp_path)
    metrics = metric.evaluate(0)
    assert line in warned
    assert numbers_of(metrics)
    if name == 'BoundaryMetric':
        assert set(metrics.values()) == {0, 0.01}  # the lowest threshold among equals
    else:
        assert all(math.isnan(value) for value in numbers_of(metrics).values())
    # The keys are those of an evaluation with images, so that a monitored metric is always there.
    metric.process({}, [empty_sample(1)])
    assert set(metrics) == set(metric.evaluate(1))


@pytest.mark.filterwarnings('ignore:Mean of empty slice')
@pytest.mark.parametrize('name', METRICS_AND_LINES)
def test_images_without_objects_in_which_none_is_found(name, tmp_path, warned):
    metric = build(name, tmp_path)
    metric.process({}, [empty_sample(1), empty_sample(2)])
    metrics = {key.split('/')[-1]: value for key, value in metric.evaluate(2).items()}
    if name == 'CocoInstanceMetric':
        assert metrics == dict.fromkeys([*AP, 'segm_mAP_all'], -1)  # COCO's value where there is no object
        assert (
            'no instance was found in the whole data set: every AP is 0, or -1 where there is no object to find'
            in warned
        )
    elif name in ('RegionAveragePrecisionMetric', 'ProposalRecallMetric'):
        assert all(math.isnan(value) for value in numbers_of(metrics).values())
        assert any(line.startswith('2 images were evaluated, and their ground truth has no object') for line in warned)
    elif name == 'TrimapIoUMetric':
        assert all(math.isnan(value) for value in numbers_of(metrics).values())
        assert np.isnan(metrics['curve']['mIoU, %']).all() and len(metrics['curve']['mIoU, %']) == 40
        assert any('none has a boundary between classes' in line for line in warned)
    elif name == 'CountingMetric':
        assert (metrics['SBD'], metrics['DiC'], metrics['splits'], metrics['F1_50']) == (1, 0, 0, 0)
    elif name == 'ForegroundIoUMetric':
        assert metrics['mIoU'] == metrics['aAcc'] == 100  # the background
    else:
        assert metrics['ODS'] == metrics['OIS'] == metrics['AP'] == 0


def test_a_detection_where_there_is_no_object_gets_cocos_value(tmp_path):
    """Beyond COCO's limit of a hundred the uncapped AP is computed separately, with the same value."""
    metric = build('CocoInstanceMetric', tmp_path)
    metric.process({}, [predict_rows(1, [(0, 0.5, '##........')] * 101)])
    assert metric.evaluate(1) == {f'coco/{key}': -1 for key in [*AP, 'segm_mAP_all']}
