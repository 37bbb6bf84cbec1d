"""Trainings of a tiny model: settings that would fail late stop at the start, all others run."""

import logging

import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmseg.registry import DATASETS, METRICS
from torch import nn
from torch.utils.data import Dataset

from mmseg_instancenet.engine import FreezeHook, SettingsHook, check_settings
from mmseg_instancenet.evaluation import CocoInstanceMetric, CountingMetric, ForegroundIoUMetric


class TinyModel(BaseModel):
    """A convolution with batch norm, and image pooling with the norm of the test."""

    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4))
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), norm(4), nn.ReLU())

    def forward(self, inputs, mode='tensor'):
        features = self.backbone(inputs)
        pooled = features + self.image_pool(features)
        return {'loss': pooled.square().mean()} if mode == 'loss' else [{'mean': value.mean()} for value in pooled]


class Images(Dataset):
    metainfo = {'classes': ('cat',)}

    def __init__(self, count):
        self.images = torch.randn(count, 1, 5, 5, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {'inputs': self.images[index]}


class GivesWhatItIsTold(BaseMetric):
    """A metric that this package does not contain; returns given values, one validation after another."""

    default_prefix = 'own'

    def __init__(self, *values):
        super().__init__()
        self.values = list(values)

    def process(self, data_batch, data_samples):
        self.results.append(len(data_samples))

    def compute_metrics(self, results):
        return self.values.pop(0)


def make_runner(
    folder,
    count=8,
    batch_size=4,
    drop_last=False,
    norm=nn.BatchNorm2d,
    hooks=(),
    metrics=(),
    save_best=None,
    **settings,
) -> Runner:
    torch.manual_seed(0)
    loader = {'dataset': Images(count), 'batch_size': batch_size, 'collate_fn': {'type': 'default_collate'}}
    if metrics:
        sampler = {'type': 'DefaultSampler', 'shuffle': False}
        settings.update(
            val_dataloader={**loader, 'batch_size': 1, 'sampler': sampler},
            val_cfg={},
            val_evaluator=list(metrics),
        )
    settings.setdefault('train_cfg', {'by_epoch': True, 'max_epochs': 2})
    return Runner(
        TinyModel(norm),
        work_dir=str(folder),
        train_dataloader={**loader, 'drop_last': drop_last, 'sampler': {'type': 'DefaultSampler', 'shuffle': True}},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}},
        default_hooks={
            'checkpoint': {'type': 'CheckpointHook', 'save_best': save_best, 'rule': save_best and 'greater'},
            'settings': {'type': 'SettingsHook'},
        },
        custom_hooks=list(hooks),
        default_scope='mmseg',
        log_level='WARNING',
        experiment_name=str(folder),
        **settings,
    )


@pytest.mark.parametrize(('count', 'batch_size'), [(3, 1), (5, 4), (9, 8), (7, 2)])
def test_a_batch_norm_over_one_value_stops_the_first_iteration(tmp_path, count, batch_size):
    runner = make_runner(tmp_path, count, batch_size)
    with pytest.raises(ValueError, match=r'^image_pool\.2 is batch norm over one value .* got .*(batch_size=1|last)'):
        runner.train()
    assert runner.iter == 0


@pytest.mark.parametrize(
    ('count', 'batch_size', 'drop_last'), [(8, 4, False), (5, 4, True), (6, 5, True), (3, 2, True)]
)
def test_two_images_are_enough(tmp_path, count, batch_size, drop_last):
    runner = make_runner(tmp_path, count, batch_size, drop_last)
    runner.train()
    assert runner.epoch == 2


NORMS = {
    'group norm': lambda channels: nn.GroupNorm(2, channels),
    'none': lambda channels: nn.Identity(),
    'frozen': lambda channels: AlwaysFrozen(channels),
}


class AlwaysFrozen(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(False)


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize(('count', 'batch_size'), [(3, 1), (5, 4)])
def test_one_image_is_enough_for_other_norms(tmp_path, norm, count, batch_size):
    """The backbone's batch norm sees 25 values of one image."""
    runner = make_runner(tmp_path, count, batch_size, norm=NORMS[norm])
    runner.train()
    assert runner.epoch == 2 and not any(module._forward_pre_hooks for module in runner.model.modules())


@pytest.mark.parametrize('until', [1, 2])
def test_a_part_that_a_hook_unfreezes_stops_that_epoch(tmp_path, until):
    hooks = [FreezeHook('image_pool', until=until)]
    runner = make_runner(tmp_path, 3, 1, hooks=hooks, train_cfg={'by_epoch': True, 'max_epochs': 3})
    with pytest.raises(ValueError, match='image_pool.2 is batch norm over one value'):
        runner.train()
    assert runner.iter == until * 3


@pytest.mark.parametrize('schedule', ['MultiStepLR', 'CosineAnnealingLR'])
def test_an_epoch_without_iterations(tmp_path, schedule):
    """MMEngine makes the second schedule from the length of an epoch, before any hook: tools/train.py checks earlier."""
    settings = {'milestones': [1]} if schedule == 'MultiStepLR' else {'T_max': 2, 'convert_to_iter_based': True}
    runner = make_runner(tmp_path, 4, 5, True, param_scheduler={'type': schedule, 'by_epoch': True, **settings})
    with pytest.raises(ValueError, match='no iteration: 4 images in the training set, batch_size=5'):
        check_settings(runner)
    if schedule == 'MultiStepLR':
        with pytest.raises(ValueError, match='no iteration: 4 images in the training set, batch_size=5'):
            runner.train()
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize(
    ('metrics', 'save_best', 'other'),
    [
        ([dict(type='CountingMetric')], 'coco/segm_mAP', 'counting/SBD'),
        ([dict(type='CountingMetric', prefix='leaves')], 'counting/SBD', 'leaves/SBD'),
        (
            [dict(type='CountingMetric'), dict(type='CocoInstanceMetric', metric='bbox')],
            'coco/segm_mAP',
            'coco/bbox_mAP',
        ),
        ([dict(type='CocoInstanceMetric', metric_items=['mAP_50'])], 'coco/segm_mAP', 'coco/segm_mAP_50'),
        ([dict(type='ForegroundIoUMetric', iou_metrics=['mDice'])], 'mIoU', 'mDice'),
        ([dict(type='TrimapIoUMetric')], 'trimap/curve', 'trimap/mIoU_40'),
    ],
)
def test_a_best_metric_that_no_metric_gives(tmp_path, metrics, save_best, other):
    runner = make_runner(tmp_path, metrics=[METRICS.build(metric) for metric in metrics], save_best=save_best)
    with pytest.raises(ValueError, match=rf"save_best='{save_best}': no metric .* Expected one of \[.*'{other}'"):
        runner.train()
    assert runner.iter == 0
    check_settings(make_runner(tmp_path / 'b', metrics=[METRICS.build(metric) for metric in metrics], save_best=other))
    check_settings(make_runner(tmp_path / 'c', metrics=[METRICS.build(metric) for metric in metrics], save_best='auto'))
    check_settings(make_runner(tmp_path / 'd', metrics=[METRICS.build(metric) for metric in metrics]))


class Warnings(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.mark.parametrize(
    ('values', 'best'),
    [
        ([{'other': 0.5}, {'other': 0.6}], None),
        ([{'other': 0.5}, {'other': 0.5, 'AP': 0.25}], 2),
        ([{'AP': 0.5}, {'other': 0.9}], 1),
        ([{'AP': 0.5}, {'AP': 0.75}], 2),
    ],
)
def test_a_validation_without_the_best_metric_warns_and_goes_on(tmp_path, values, best):
    """MMEngine's KeyError would end the training after its first epoch."""
    runner = make_runner(tmp_path, metrics=[GivesWhatItIsTold(*values)], save_best='own/AP')
    warnings = Warnings()
    runner.logger.addHandler(warnings)
    runner.train()
    assert runner.epoch == 2
    assert [path.name for path in tmp_path.glob('best*')] == ([] if best is None else [f'best_own_AP_epoch_{best}.pth'])
    assert sum("save_best='own/AP': this validation gave no" in line for line in warnings.lines) == sum(
        'AP' not in one for one in values
    )


REPEATED = {
    'twice': dict(type='RepeatDataset', times=2),
    'rare classes more often': dict(type='ClassBalancedDataset', oversample_thr=1.0),
}


@DATASETS.register_module(force=True)
class FourImages(Images):
    """One of which alone has a dog."""

    def __init__(self):
        super().__init__(4)

    def full_init(self):
        pass

    def get_cat_ids(self, index):
        return [int(index == 2)]


@pytest.mark.parametrize('stage', ['before_val', 'before_test'])
@pytest.mark.parametrize('wrapper', REPEATED)
@pytest.mark.parametrize('metric', [CocoInstanceMetric, CocoMetric, CountingMetric, ForegroundIoUMetric])
def test_images_that_come_twice_are_refused_where_ap_is_measured(tmp_path, stage, wrapper, metric):
    runner = make_runner(tmp_path, metrics=[CountingMetric()])
    loop = runner.val_loop
    loop.evaluator.metrics = [metric()]
    loop.dataloader.__dict__['dataset'] = DATASETS.build(dict(REPEATED[wrapper], dataset=dict(type='FourImages')))
    runner._test_loop = loop
    check = getattr(SettingsHook(), stage)
    if issubclass(metric, CocoMetric):
        with pytest.raises(ValueError, match='Dataset gives images more than once.* each image once in val_dataloader'):
            check(runner)
    else:
        check(runner)
    loop.dataloader.__dict__['dataset'] = DATASETS.build(dict(type='FourImages'))
    check(runner)
