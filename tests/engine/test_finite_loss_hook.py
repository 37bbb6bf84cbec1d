"""Trainings that diverge: they stop in that iteration, name it and its images, and keep the checkpoints before."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_instancenet.datasets.digits import write_digits

CONFIG = Path(__file__).parents[2] / 'configs/instancenet_digits.py'


class Breaks(Hook):
    """Makes a weight NaN before the third iteration, as a damaged memory would."""

    def __init__(self, name):
        self.name = name

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:
            runner.model.get_parameter(self.name).data.view(-1)[0] = torch.nan


class InfiniteGradient(Hook):
    """Multiplies the gradient of a weight by infinity in the third iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:
            runner.model.decode_head.conv_seg.weight.register_hook(lambda gradient: gradient * torch.inf)


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp('digits')
    write_digits(folder, num_train=8, num_val=1)
    return folder


def make_runner(digits, folder, *hooks, **settings):
    """Two images a batch, four iterations, a checkpoint after each."""
    config = Config.fromfile(CONFIG)
    config.merge_from_dict(
        {
            'model.backbone.base_channels': 4,
            'model.decode_head.in_channels': 4,
            'model.decode_head.channels': 8,
            'train_dataloader.batch_size': 2,
            'train_dataloader.dataset.data_root': str(digits),
            'default_hooks.checkpoint': dict(by_epoch=False, interval=1, max_keep_ckpts=-1, save_best=None),
            'train_cfg.max_epochs': 1,
            'log_level': 'ERROR',
            **settings,
        }
    )
    config.update(work_dir=str(folder), experiment_name=f'finite-{folder.name}', param_scheduler=[])
    config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook)
    return runner


def batch_files(message):
    names = re.search(r'iteration \d+, images (.*)\)$', message)[1].split(', ')
    assert len(names) == 2 and all(Path(name).is_file() for name in names)
    return names


@pytest.mark.parametrize(
    ('hook', 'message'),
    [
        (
            Breaks('decode_head.conv_seg.weight'),
            r'finite losses, got loss nan, decode.loss_ce nan, grad_norm nan\. .*--resume',
        ),
        (InfiniteGradient(), r'finite losses, got grad_norm (nan|inf)\. .*--resume'),
        (Breaks('decode_head.conv_embedding.weight'), 'finite embeddings, got NaN.*lower the learning rate'),
    ],
    ids=['class loss', 'gradient', 'embeddings'],
)
def test_it_stops_in_the_third_iteration(hook, message, digits, tmp_path):
    runner = make_runner(digits, tmp_path, hook)
    with pytest.raises(ValueError, match=message) as caught:
        runner.train()
    assert 'iteration 3, ' in str(caught.value)
    batch_files(str(caught.value))
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['iter_1.pth', 'iter_2.pth']
    weights = torch.load(tmp_path / 'iter_2.pth', weights_only=True)['state_dict']
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_learning_rate_far_too_high(digits, tmp_path):
    with pytest.raises(ValueError, match='diverged.*iteration 2, images ') as caught:
        make_runner(digits, tmp_path, **{'optim_wrapper.optimizer.lr': 1e30}).train()
    batch_files(str(caught.value))


def test_a_training_that_goes_well_is_left_alone(digits, tmp_path):
    runner = make_runner(digits, tmp_path)
    runner.train()
    assert runner.iter == 4


def test_a_loss_scale_may_let_gradients_overflow(digits, tmp_path, monkeypatch):
    """MMEngine's AmpOptimWrapper refuses a CPU: the kind of the wrapper is what is looked at."""
    monkeypatch.setattr('mmseg_instancenet.engine.finite_loss_hook.AmpOptimWrapper', object)
    runner = make_runner(digits, tmp_path, InfiniteGradient(), **{'train_dataloader.dataset.indices': 6})
    runner.train()
    assert runner.iter == 3
