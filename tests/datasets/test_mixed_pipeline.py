"""Transforms of mmcv and mmseg between mmdet's annotations and MasksToMaps: refused if they fail or do not move the
masks."""

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmcv.transforms import RandomFlip as MMCVRandomFlip
from mmseg.registry import TRANSFORMS
from test_mmseg_transforms import loaded

from mmseg_instancenet.datasets.transforms.mixed_pipeline import check_mixed_pipeline

LOAD = dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True)
MAPS = dict(type='MasksToMaps')
FAILING = [
    (dict(type='Resize', scale=(60, 50)), 'Resize cannot move the boxes .* expected mmdet.Resize'),
    (dict(type='mmcv.Resize', scale_factor=0.5), 'expected mmdet.Resize'),
    (dict(type='RandomResize', scale=(60, 50), ratio_range=(0.5, 2.0)), "expected .* resize_type='mmdet.Resize'"),
    (dict(type='RandomChoiceResize', scales=[(60, 50), (80, 70)]), "expected .* resize_type='mmdet.Resize'"),
    (dict(type='ResizeShortestEdge', scale=60, max_size=90), 'expected mmdet.Resize'),
    (dict(type='RandomFlip', prob=1.0), 'RandomFlip cannot move the boxes .* expected mmdet.RandomFlip'),
    (dict(type='CenterCrop', crop_size=40), 'CenterCrop cannot move the boxes .* expected mmdet.RandomCrop'),
    (dict(type='RandomApply', transforms=[dict(type='Resize', scale=(60, 50))], prob=1.0), 'expected mmdet.Resize'),
    (
        dict(type='RandomChoice', transforms=[[dict(type='RandomFlip', prob=1.0)]], prob=[1.0]),
        'expected mmdet.RandomFlip',
    ),
]
SILENT = [
    dict(type='RandomRotate', prob=1.0, degree=90.0),
    dict(type='RandomRotFlip', rotate_prob=0.0, flip_prob=1.0),
    dict(type='RandomCrop', crop_size=(40, 50)),
    dict(type='ResizeToMultiple', size_divisor=50),
]
RIGHT = [
    dict(type='mmdet.Resize', scale=(60, 50)),
    dict(type='mmdet.RandomFlip', prob=1.0),
    dict(type='mmdet.RandomCrop', crop_size=(40, 50), allow_negative_crop=True),
    dict(type='RandomResize', resize_type='mmdet.Resize', scale=(60, 50), ratio_range=(0.5, 2.0)),
    dict(type='RandomChoiceResize', resize_type='mmdet.Resize', scales=[(60, 50), (80, 70)]),
    dict(type='ResizeLongerSide', length=50),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomApply', transforms=[dict(type='mmdet.Resize', scale=(60, 50))], prob=1.0),
]


def check(*steps: dict) -> None:
    check_mixed_pipeline([TRANSFORMS.build(step) for step in steps])


@pytest.mark.parametrize(('step', 'message'), FAILING, ids=lambda value: str(value)[:40])
def test_transforms_that_fail_on_boxes_are_refused_by_name(step, message):
    with pytest.raises((ValueError, AttributeError)):
        Compose([step])(loaded())
    with pytest.raises(ValueError, match=message):
        check(LOAD, step, MAPS)
    check(step, LOAD, MAPS)
    check(LOAD, MAPS, step)
    check(dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type=None), step)


@pytest.mark.parametrize('step', SILENT, ids=lambda step: step['type'])
def test_transforms_that_do_not_move_the_masks_are_refused(step):
    before = loaded()
    after = Compose([step])(loaded())
    assert after['img'].shape != before['img'].shape or (after['img'] != before['img']).any()
    np.testing.assert_array_equal(after['gt_masks'].masks, before['gt_masks'].masks)
    with pytest.raises(ValueError, match=f'{step["type"]} moves the image and not the masks .* after MasksToMaps'):
        check(LOAD, step, MAPS)
    check(step, LOAD, MAPS)
    check(LOAD, MAPS, step)


@pytest.mark.parametrize('step', RIGHT, ids=lambda step: str(step)[:60])
def test_valid_pipelines_pass(step):
    results = Compose([step])(loaded())
    assert results['img'].shape[:2] == (results['gt_masks'].height, results['gt_masks'].width)
    check(LOAD, step, MAPS)


class FlipOfItsOwn(MMCVRandomFlip):
    def _flip_bbox(self, bboxes, img_shape, direction):
        return bboxes


def test_a_class_that_moves_boxes_its_own_way_passes():
    check_mixed_pipeline([TRANSFORMS.build(LOAD), FlipOfItsOwn(prob=1.0)])
