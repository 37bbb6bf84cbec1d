"""The profile of a training puts time where it is spent."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import ParamSchedulerHook
from mmseg.models.backbones import UNet
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import training_profile
from benchmarks.training_profile import format_profile, main, seconds_of_parts
from mmseg_instancenet.datasets.digits import write_digits
from mmseg_instancenet.datasets.transforms import PackInstanceMaps
from mmseg_instancenet.models import DiscriminativeLoss, InstanceMapDataPreprocessor

CONFIG = Path(__file__).parents[2] / 'configs/instancenet_digits.py'
BATCH = 2


def event(name: str, start: float, end: float, number: int = -1) -> SimpleNamespace:
    span = SimpleNamespace(start=start, end=end)
    return SimpleNamespace(name=name, time_range=span, cpu_time_total=end - start, sequence_nr=number)


def test_parts_of_events():
    """Two iterations in microseconds; the losses lie inside the network's range, their backward passes inside backward's."""
    part, backward = 'training_profile: ', 'autograd::engine::evaluate_function: '
    events = [
        event('enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__', 0, 10),
        event(part + 'preprocessing', 10, 13),
        event(part + 'network, forward', 13, 50),
        event('aten::conv2d', 14, 30, number=1),
        event(part + 'losses, forward', 30, 35),
        event('aten::pow', 31, 33, number=2),
        event('aten::conv2d', 36, 40, number=3),
        event(part + 'losses, forward', 41, 45),
        event('aten::mean', 42, 43, number=4),
        event(part + 'backward', 50, 100),
        event(backward + 'MeanBackward0', 51, 54, number=4),
        event(backward + 'ConvolutionBackward0', 54, 70, number=3),
        event(backward + 'PowBackward0', 70, 72, number=2),
        event(backward + 'ConvolutionBackward0', 72, 99, number=1),
        event(part + 'optimiser', 100, 106),
        event(part + 'hooks and log', 106, 108),
        event('enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__', 110, 114),
    ]
    assert seconds_of_parts(events, total=120e-6, iterations=2) == pytest.approx(
        {
            'data': 7e-6,
            'preprocessing': 1.5e-6,
            'network, forward': 14e-6,
            'losses, forward': 4.5e-6,
            'losses, backward': 2.5e-6,
            'network, backward': 22.5e-6,
            'optimiser': 3e-6,
            'hooks and log': 1e-6,
            'other': 4e-6,  # of 120, four after the hooks of the first iteration, and what is not in the list
        }
    )


def test_backward_pass_of_the_losses_is_found_by_autograds_numbers():
    torch.manual_seed(0)
    conv, image = nn.Conv2d(3, 2, 3), torch.randn(1, 3, 9, 9)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(2):
            with record_function('training_profile: network, forward'):
                output = conv(image).relu()
                with record_function('training_profile: losses, forward'):
                    loss = output.square().mean()
                loss = loss + conv(image).tanh().sum()  # a later part of the network
            with record_function('training_profile: backward'):
                loss.backward()
    events = profiler.events()
    seconds = seconds_of_parts(events, 1.0, iterations=2)
    names = [f'autograd::engine::evaluate_function: {name}' for name in ('PowBackward0', 'MeanBackward0')]
    of_losses = [one.cpu_time_total / 1e6 for one in events if one.name in names]
    assert len(of_losses) == 4
    assert seconds['losses, backward'] == pytest.approx(sum(of_losses) / 2)
    assert sum(seconds.values()) == pytest.approx(0.5)


class Sleep(torch.autograd.Function):
    """Changes no value; forward and backward pass take time."""

    @staticmethod
    def forward(context, values, forward, backward):
        context.pause = backward
        time.sleep(forward)
        return values.clone()

    @staticmethod
    def backward(context, gradient):
        time.sleep(context.pause)
        return gradient, None, None


PAUSES = {
    'data': 0.01 * BATCH,
    'preprocessing': 0.04,
    'network, forward': 0.06,
    'losses, forward': 0.08,
    'losses, backward': 0.1,
    'network, backward': 0.12,
    'optimiser': 0.14,
    'hooks and log': 0.16,
}
"""Seconds that each part sleeps in an iteration. It lasts at least so long on any machine, and were two parts exchanged, the
longer pause would be missing in its part."""


@pytest.fixture
def sleeping_parts(monkeypatch):
    def sleep_before(owner, method, seconds):
        call = getattr(owner, method)
        monkeypatch.setattr(owner, method, lambda *given, **named: (time.sleep(seconds), call(*given, **named))[1])

    sleep_before(PackInstanceMaps, 'transform', PAUSES['data'] / BATCH)
    sleep_before(InstanceMapDataPreprocessor, 'forward', PAUSES['preprocessing'])
    sleep_before(torch.optim.AdamW, 'step', PAUSES['optimiser'])
    sleep_before(ParamSchedulerHook, 'after_train_iter', PAUSES['hooks and log'])
    network, loss = UNet.forward, DiscriminativeLoss.forward
    in_network = [PAUSES['network, forward'], PAUSES['network, backward']]
    in_loss = [PAUSES['losses, forward'], PAUSES['losses, backward']]
    monkeypatch.setattr(
        UNet, 'forward', lambda self, x: [*(maps := network(self, x))[:-1], Sleep.apply(maps[-1], *in_network)]
    )
    monkeypatch.setattr(
        DiscriminativeLoss, 'forward', lambda self, x, *maps: loss(self, Sleep.apply(x, *in_loss), *maps)
    )
    monkeypatch.setattr(training_profile, 'WARM_UP', 1)


def options(folder: Path) -> list[str]:
    write_digits(folder / 'data', num_train=4 * BATCH, num_val=1)
    return [
        '--work-dir', str(folder / 'run'), '--cfg-options', f'train_dataloader.dataset.data_root={folder}/data',
        f'val_dataloader.dataset.data_root={folder}/data', 'model.backbone.base_channels=4', 'train_cfg.max_epochs=1',
        'model.decode_head.in_channels=4', 'model.decode_head.channels=8', f'train_dataloader.batch_size={BATCH}',
    ]  # fmt: skip


def test_parts_of_a_training(tmp_path, sleeping_parts, monkeypatch, capsys):
    found = []
    monkeypatch.setattr(training_profile, 'format_profile', lambda one: found.append(one) or format_profile(one))
    main([str(CONFIG), '--iterations', '1', '--operators', '3', *options(tmp_path)])
    (measured,) = found
    for part, pause in PAUSES.items():
        assert measured.seconds_of[part] >= pause, part
    assert measured.iteration >= sum(PAUSES.values())
    assert measured.seconds_of['other'] > 0
    printed = capsys.readouterr().out
    assert '| hooks and log |' in printed and 'Self CPU' in printed


def test_a_training_that_is_too_short_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match='expected a training of more than 9 iterations, got one of 4: take fewer by --iterations'
    ):
        main([str(CONFIG), '--iterations', '2', *options(tmp_path), 'train_cfg.val_interval=9'])
