"""Which steps of a pipeline let a large image be segmented tile by tile."""

import pytest
from mmcv.transforms import BaseTransform
from mmengine.registry import init_default_scope
from mmseg.registry import TRANSFORMS

from mmseg_instancenet.apis.image_alone import check_parts_alike


class SubtractMean(BaseTransform):
    """Takes the mean of the image away."""

    def transform(self, results):
        return {**results, 'img': results['img'] - results['img'].mean()}


def build(*steps):
    init_default_scope('mmseg')
    return [step if isinstance(step, BaseTransform) else TRANSFORMS.build(step) for step in steps]


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(
    'steps',
    [
        [],
        [dict(type='NormalizePercentiles')],
        [dict(type='NormalizePercentiles', per_channel=True), dict(type='Resize', scale_factor=0.5)],
        [dict(type='Resize', scale_factor=2.0), dict(type='Pad', size_divisor=32)],
        [dict(type='mmdet.RandomFlip', prob=0.0)],
    ],
)
def test_steps_that_treat_parts_as_the_whole(steps, channels):
    check_parts_alike(build(*steps), channels)


@pytest.mark.parametrize(
    'step, name',
    [
        (
            dict(type='Resize', scale=(513, 513), keep_ratio=True),
            'Resize: of 96 x 128 .* it makes 385 x 513, .* 513 x 513',
        ),
        (dict(type='mmdet.Resize', scale=(64, 64), keep_ratio=False), 'Resize'),
        (dict(type='Pad', size=(128, 128)), 'Pad'),
        (dict(type='mmdet.RandomFlip', prob=1.0), 'RandomFlip'),
        (SubtractMean(), 'SubtractMean'),
    ],
)
def test_steps_that_depend_on_the_image(step, name):
    with pytest.raises(ValueError, match=f'expected a test pipeline whose steps treat a tile .* got {name}'):
        check_parts_alike(build(dict(type='NormalizePercentiles'), step), 3)
