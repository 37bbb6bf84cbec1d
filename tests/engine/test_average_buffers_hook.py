"""Statistics of batch norm in several processes: validations and checkpoints have their mean."""

import os
import signal

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from random_training import noisy_runner
from several_processes import run_ranks

from mmseg_instancenet.engine import register_safe_loaders

MOMENTUM = 0.1
"""Of torch's batch norm."""
LOOPS = {
    'epochs': dict(type='ResumableEpochLoop', max_epochs=4, val_interval=1),
    'iterations': dict(type='ResumableIterLoop', max_iters=8, val_interval=4),
}
BATCHES = 2
"""Of an epoch in each of two processes; as many iterations as a checkpoint has between."""


class Means(Hook):
    """The mean of each batch of this process, and the running mean in validations."""

    def __init__(self):
        self.of_batches, self.in_validations = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.of_batches.append(data_batch['inputs'].mean(0))

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            self.in_validations.append(runner.model.module.norm.running_mean.clone())


def train_rank(folder, name, stop_at):
    """Trains, in one of two processes; with ``stop_at``, SIGTERM comes in that iteration of the first one."""
    register_safe_loaders()
    runner = noisy_runner(
        folder / 'run',
        dict(LOOPS[name]),
        launcher='pytorch',
        cfg=dict(model_wrapper_cfg=dict(type='CPUDistributedDataParallel', broadcast_buffers=False)),
        custom_hooks=[dict(type='AverageBuffersHook'), dict(type='EMAHook', ema_type='ExponentialMovingAverage')],
    )
    means = Means()
    runner.register_hook(means, 'LOWEST')
    if stop_at is not None and runner.rank == 0:
        runner.model.module.at_iteration = lambda now: now == stop_at and os.kill(os.getpid(), signal.SIGTERM)
    try:
        runner.train()
    except SystemExit as end:
        assert stop_at is not None and end.code == 143
    (ema,) = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
    return dict(batches=means.of_batches, validations=means.in_validations, ema=ema.ema_model.module.norm.running_mean)


def running_means(ranks):
    """The mean over the processes after each iteration, by the formula of batch norm."""
    found, now = [], torch.zeros(4)
    for batch_means in zip(*(rank['batches'] for rank in ranks), strict=True):
        now = (1 - MOMENTUM) * now + MOMENTUM * torch.stack(batch_means).mean(0)
        found.append(now)
    return found


@pytest.mark.parametrize('name', LOOPS)
def test_validations_and_checkpoints_have_the_mean(tmp_path, name):
    ranks = run_ranks(train_rank, 2, tmp_path / 'ranks', tmp_path, name, None)
    expected = running_means(ranks)
    apart = [rank['batches'][0] for rank in ranks]
    assert not torch.allclose(*apart)  # they saw different data
    every = BATCHES if name == 'epochs' else 4
    for rank in ranks:
        torch.testing.assert_close(rank['validations'], expected[every - 1 :: every])
    saved = sorted(tmp_path.glob('run/[ei]*.pth'), key=lambda path: int(path.stem.split('_')[-1]))
    ends = [6, 8] if name == 'epochs' else [4, 8]
    assert len(saved) == 2
    for path, end in zip(saved, ends, strict=True):
        checkpoint = torch.load(path, weights_only=True)
        # EMAHook puts its copy into state_dict, and the last weights of the training into ema_state_dict.
        torch.testing.assert_close(checkpoint['state_dict']['norm.running_mean'], expected[end - 1])
        torch.testing.assert_close(checkpoint['ema_state_dict']['module.norm.running_mean'], expected[end - 1])
    assert torch.equal(ranks[0]['ema'], ranks[1]['ema'])


def test_the_checkpoint_of_a_signal_has_the_mean(tmp_path):
    """It comes within an epoch."""
    ranks = run_ranks(train_rank, 2, tmp_path / 'ranks', tmp_path, 'epochs', 2)
    checkpoint = torch.load(tmp_path / 'run/interrupted_iter_3.pth', weights_only=True)
    torch.testing.assert_close(checkpoint['state_dict']['norm.running_mean'], running_means(ranks)[2])
