"""Training in two phases."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from mmseg.registry import MODELS
from several_processes import run_ranks
from torch import nn
from torch.utils.data import Dataset

from mmseg_instancenet.engine import FreezeHook, load_weights_only, register_safe_loaders

SAMPLES, BATCH, EPOCHS, UNTIL = 12, 2, 4, 2


class TinyModel(BaseModel):
    """A backbone of two blocks with batch norm, a neck that is one, and a head."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)) for name in ('low', 'high')}
        )
        self.neck = nn.BatchNorm1d(3)
        self.decode_head = nn.Linear(3, 1)

    def forward(self, inputs, targets, mode='tensor'):
        x = self.backbone['high'](self.backbone['low'](inputs).relu()).relu()
        y = self.decode_head(self.neck(x))
        return {'loss': (y - targets).square().mean()} if mode == 'loss' else [y]


class Numbers(Dataset):
    """Random points with a drift, so that two ranks have different data."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(SAMPLES, 3, generator=generator) + torch.arange(SAMPLES)[:, None] / 3
        self.targets = torch.randn(SAMPLES, 1, generator=generator) * 3

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return {'inputs': self.inputs[index], 'targets': self.targets[index]}


class Record(Hook):
    """State of the model before each iteration, and the modes of its parts while it runs."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.states, self.training, self.requires_grad = [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = getattr(runner.model, 'module', runner.model)
        self.states.append({name: value.clone() for name, value in model.state_dict().items()})
        self.training.append({name: module.training for name, module in model.named_modules()})
        self.requires_grad.append({name: p.requires_grad for name, p in model.named_parameters()})

    def after_train(self, runner):
        self.before_train_iter(runner, 0)


def make_runner(work_dir, hook, max_epochs=EPOCHS, by_epoch=True, validate=False, custom_hooks=(), **settings):
    work_dir = Path(work_dir)
    torch.manual_seed(0)
    loader = {'dataset': Numbers(), 'batch_size': BATCH, 'num_workers': 0, 'collate_fn': {'type': 'default_collate'}}
    length = max_epochs if by_epoch else max_epochs * (SAMPLES // BATCH)
    if validate:
        settings['val_dataloader'] = {**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
        settings.update(val_cfg={}, val_evaluator=Evaluator([]))
    record = Record()
    runner = Runner(
        TinyModel(),
        work_dir=str(work_dir),
        train_dataloader={**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': True}},
        optim_wrapper={'optimizer': {'type': 'AdamW', 'lr': 0.02, 'weight_decay': 0.1}},
        train_cfg={
            'by_epoch': by_epoch,
            **({'max_epochs': length} if by_epoch else {'max_iters': length}),
            'val_interval': 1 if by_epoch else 2,
        },
        default_hooks={'logger': {'type': 'LoggerHook', 'interval': 100}},
        custom_hooks=[record, *([] if hook is None else [hook]), *custom_hooks],
        randomness={'seed': 0},
        default_scope='mmseg',
        log_level='WARNING',
        experiment_name=f'{work_dir.name}_{max_epochs}_{"x".join(settings)}_{id(record)}',
        **settings,
    )
    runner.record = record
    return runner


def train(work_dir, hook, **settings):
    runner = make_runner(work_dir, hook, **settings)
    runner.train()
    return runner


def same(first, second, prefix=''):
    names = [name for name in first if name.startswith(prefix)]
    assert names
    return all(torch.equal(first[name], second[name]) for name in names)


def none_same(first, second, prefix):
    names = [name for name in first if name.startswith(prefix) and 'num_batches' not in name]
    assert names
    return not any(torch.equal(first[name], second[name]) for name in names)


@pytest.fixture(autouse=True)
def safe_loaders(monkeypatch):
    """Replaces MMEngine's loaders by ours for one test."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    register_safe_loaders()


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny batch norms wait for a second thread longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def check_phases(record, switch, frozen='backbone'):
    states = record.states
    for state in states[1 : switch + 1]:
        assert same(states[0], state, frozen)  # parameters and statistics
    assert none_same(states[0], states[switch], 'decode_head')
    assert none_same(states[0], states[switch], 'neck')
    for before, after in pairwise(states[switch:]):
        assert none_same(before, after, frozen)
    for step, (training, requires_grad) in enumerate(zip(record.training[:-1], record.requires_grad[:-1], strict=True)):
        assert {v for name, v in training.items() if name.startswith(frozen)} == {step >= switch}
        assert {v for name, v in requires_grad.items() if name.startswith(frozen)} == {step >= switch}
        assert training['decode_head']
        assert requires_grad['decode_head.weight']


@pytest.mark.parametrize('validate', [False, True])
def test_phases_by_epoch(tmp_path, validate):
    runner = train(tmp_path, FreezeHook('backbone', until=UNTIL), validate=validate)
    assert len(runner.record.states) == EPOCHS * SAMPLES // BATCH + 1
    check_phases(runner.record, switch=UNTIL * SAMPLES // BATCH)


@pytest.mark.parametrize('validate', [False, True])
def test_phases_by_iteration(tmp_path, validate):
    hook = FreezeHook('backbone', until=3, by_epoch=False)
    runner = train(tmp_path, hook, max_epochs=1, by_epoch=False, validate=validate)
    assert len(runner.record.states) == SAMPLES // BATCH + 1
    check_phases(runner.record, switch=3)


def test_iterations_in_a_loop_of_epochs(tmp_path):
    check_phases(train(tmp_path, FreezeHook('backbone', until=8, by_epoch=False)).record, switch=8)


def test_several_parts_by_name(tmp_path):
    runner = train(tmp_path, FreezeHook(['backbone.low', 'neck'], until=1), max_epochs=2)
    states, switch = runner.record.states, SAMPLES // BATCH
    for part in ('backbone.low', 'neck'):
        assert same(states[0], states[switch], part)
        assert none_same(states[switch], states[-1], part)
    assert none_same(states[0], states[1], 'backbone.high')


def test_until_zero_freezes_nothing(tmp_path):
    plain = train(tmp_path / 'plain', None, max_epochs=1)
    hooked = train(tmp_path / 'hooked', FreezeHook('backbone', until=0), max_epochs=1)
    assert same(plain.record.states[-1], hooked.record.states[-1])
    frozen = train(tmp_path / 'frozen', FreezeHook('backbone', until=1), max_epochs=1)
    assert not same(plain.record.states[-1], frozen.record.states[-1])


@pytest.mark.parametrize('stop', [1, 2, 3])
def test_resumed_training_is_the_uninterrupted_one(tmp_path, stop):
    """Stopped before, at and after the switch."""
    whole = train(tmp_path / 'whole', FreezeHook('backbone', until=UNTIL))
    train(tmp_path / 'parts', FreezeHook('backbone', until=UNTIL), max_epochs=stop)
    rest = train(tmp_path / 'parts', FreezeHook('backbone', until=UNTIL), resume=True)
    assert len(rest.record.states) == (EPOCHS - stop) * SAMPLES // BATCH + 1
    assert same(whole.record.states[-1], rest.record.states[-1])
    # Checkpoints of both phases have one shape.
    first, last = (load_weights_only(tmp_path / f'parts/epoch_{n}.pth') for n in (1, EPOCHS))
    assert list(first['state_dict']) == list(last['state_dict'])
    groups = [checkpoint['optimizer']['param_groups'][0]['params'] for checkpoint in (first, last)]
    assert groups[0] == groups[1]


class PartlyFixed(TinyModel):
    """The norm of the backbone's lower block has fixed weights, and its higher one, as norm_eval does it, fixed moments."""

    def __init__(self):
        super().__init__()
        self.backbone['low'][1].requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.backbone['high'][1].eval()
        return self


@pytest.fixture
def partly_fixed(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], 'TinyModel', PartlyFixed)


def check_partly_fixed(record, switch):
    """Up to the switch the backbone is fixed; then all of it is as the model made it."""
    for step, (training, requires_grad) in enumerate(zip(record.training[:-1], record.requires_grad[:-1], strict=True)):
        own = {name: value for name, value in requires_grad.items() if name.startswith('backbone')}
        assert own == {name: step >= switch and not name.startswith('backbone.low.1') for name in own}, step
        modes = {name: value for name, value in training.items() if name.startswith('backbone')}
        assert modes == {name: step >= switch and name != 'backbone.high.1' for name in modes}, step
    assert same(record.states[0], record.states[-1], 'backbone.low.1.weight')
    assert same(record.states[0], record.states[-1], 'backbone.high.1.running_mean')
    assert none_same(record.states[switch], record.states[-1], 'backbone.high.0')


@pytest.mark.parametrize('until', [0, 1])
def test_parameters_fixed_by_the_model_stay_fixed(tmp_path, partly_fixed, until):
    runner = train(tmp_path, FreezeHook('backbone', until=until), max_epochs=2)
    check_partly_fixed(runner.record, switch=until * SAMPLES // BATCH)


@pytest.mark.parametrize('by_epoch', [False, True])
def test_parameters_fixed_by_the_model_stay_fixed_in_phases_by_iteration(tmp_path, partly_fixed, by_epoch):
    runner = train(tmp_path, FreezeHook('backbone', until=3, by_epoch=False), max_epochs=1, by_epoch=by_epoch)
    check_partly_fixed(runner.record, switch=3)


@pytest.mark.parametrize('stop', [1, 2])
def test_parameters_fixed_by_the_model_stay_fixed_when_training_resumes(tmp_path, partly_fixed, stop):
    train(tmp_path, FreezeHook('backbone', until=1), max_epochs=stop)
    rest = train(tmp_path, FreezeHook('backbone', until=1), max_epochs=3, resume=True)
    check_partly_fixed(rest.record, switch=0)


@pytest.mark.parametrize('order', [1, -1])
@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_part_frozen_by_two_hooks_is_trained_after_the_later_phase(tmp_path, partly_fixed, order, by_epoch):
    step = SAMPLES // BATCH if by_epoch else 2
    hooks = [FreezeHook('backbone', 1 if by_epoch else step, by_epoch), FreezeHook('backbone.high', 2 * step, False)]
    runner = train(tmp_path, None, max_epochs=3, custom_hooks=hooks[::order])
    record = runner.record
    for index, (training, requires_grad) in enumerate(
        zip(record.training[:-1], record.requires_grad[:-1], strict=True)
    ):
        assert training['backbone.low.0'] == requires_grad['backbone.low.0.weight'] == (index >= step)
        assert training['backbone.high.0'] == requires_grad['backbone.high.0.weight'] == (index >= 2 * step)
        assert not requires_grad['backbone.low.1.weight'] and not training['backbone.high.1']
        assert requires_grad['backbone.high.1.weight'] == (index >= 2 * step)


def test_a_resnet_with_fixed_norms_keeps_them_fixed(tmp_path):
    backbone = MODELS.build(
        {'type': 'ResNet', 'depth': 18, 'norm_cfg': {'type': 'BN', 'requires_grad': False}, 'norm_eval': True}
    )
    runner = make_runner(tmp_path, FreezeHook('backbone', until=1))
    runner.model.backbone = backbone
    before = {name: parameter.requires_grad for name, parameter in backbone.named_parameters()}
    assert 0 < sum(before.values()) < len(before)
    runner.call_hook('before_run')
    runner.call_hook('before_train')
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    runner.train_loop._epoch = 1
    runner.call_hook('before_train_epoch')
    assert {name: parameter.requires_grad for name, parameter in backbone.named_parameters()} == before


def test_a_part_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match=r"no part named in \['encoder'\].*'backbone', 'neck', 'decode_head'"):
        train(tmp_path, FreezeHook('encoder', until=1))


@pytest.mark.parametrize(('modules', 'until'), [('backbone', 1), ('neck', 3), (['backbone.low', 'decode_head'], 80)])
def test_epochs_in_a_loop_of_iterations_stop_before_the_first_one(tmp_path, modules, until):
    """Its epoch stays 0, and the parts would stay frozen for ever."""
    runner = make_runner(tmp_path, FreezeHook(modules, until=until), by_epoch=False)
    with pytest.raises(ValueError, match=rf'FreezeHook\(until={until}, by_epoch=True\) counts epochs.* by_epoch=False'):
        runner.train()
    assert runner.iter == 0


def test_epoch_0_is_reached_in_a_loop_of_iterations_too(tmp_path):
    states = train(tmp_path, FreezeHook('backbone', until=0), max_epochs=1, by_epoch=False).record.states
    assert none_same(states[0], states[-1], 'backbone')


def test_negative_until():
    with pytest.raises(ValueError, match='until >= 0, got -1'):
        FreezeHook('backbone', until=-1)


def test_an_unknown_wrapper(tmp_path):
    runner = make_runner(tmp_path, None)
    runner.model = nn.DataParallel(runner.model)
    hook = FreezeHook('backbone', until=1)
    runner.register_hook(hook)
    runner.call_hook('before_run')
    with pytest.raises(
        TypeError, match='MMDistributedDataParallel, got DataParallel: train the two phases as two runs'
    ):
        hook.before_train(runner)


WRAPPERS = {
    'MMDistributedDataParallel': {'device_ids': None},
    'CPUDistributedDataParallel': {},  # that of tools/dist_train.sh without a GPU
}
RESUMED = {'resumed before the switch': 1, 'resumed at the switch': 2, 'resumed after the switch': 3}
"""Epochs after which a training goes on; the backbone is frozen for two, all are four."""


def train_rank(folder):
    """States of the model before each iteration: of a training with each wrapper, and of trainings that resume."""
    register_safe_loaders()
    states = {}
    for wrapper, settings in WRAPPERS.items():
        common = {
            'launcher': 'pytorch',
            'cfg': {'model_wrapper_cfg': {'type': wrapper, 'broadcast_buffers': False, **settings}},
        }
        states[wrapper] = train(folder / wrapper, FreezeHook('backbone', until=UNTIL), **common).record.states
    for name, epoch in RESUMED.items():
        checkpoint = str(folder / wrapper / f'epoch_{epoch}.pth')
        runner = train(folder / name, FreezeHook('backbone', until=UNTIL), load_from=checkpoint, resume=True, **common)
        states[name] = runner.record.states
    return states


@pytest.fixture(scope='module')
def two_ranks(tmp_path_factory):
    """What train_rank gives in each of two real processes."""
    folder = tmp_path_factory.mktemp('two_ranks')
    return run_ranks(train_rank, 2, folder, folder)


def parameters(state):
    return {name: value for name, value in state.items() if 'running' not in name and 'num_batches' not in name}


@pytest.mark.parametrize('name', [*WRAPPERS, *RESUMED])
def test_distributed_ranks_stay_equal(two_ranks, name):
    first, second = (states[name] for states in two_ranks)
    epoch = SAMPLES // BATCH // 2
    begin, switch = RESUMED.get(name, 0) * epoch, UNTIL * epoch
    assert len(first) == len(second) == EPOCHS * epoch - begin + 1
    for step, (a, b) in enumerate(zip(first, second, strict=True)):
        for key, value in parameters(a).items():
            assert torch.equal(value, b[key]), f'{key} differs before iteration {begin + step}'
    # They saw different data ...
    assert not torch.equal(first[-1]['neck.running_mean'], second[-1]['neck.running_mean'])
    # ... and the backbone was fixed, then trained.
    at = max(0, switch - begin)
    assert same(first[0], first[at], 'backbone')
    assert none_same(parameters(first[at]), parameters(first[-1]), 'backbone')
    assert none_same(first[0], first[-1], 'decode_head')


def test_distributed_without_synchronisation_would_drift(two_ranks):
    """The check above can fail: one backward pass on each rank's own data would part the backbones."""
    states = two_ranks[0]['MMDistributedDataParallel']
    state = states[len(states) // 2]
    gradients = []
    for inputs in (Numbers().inputs[0::2], Numbers().inputs[1::2]):
        model = TinyModel()
        model.load_state_dict(state)
        model(inputs, Numbers().targets[: len(inputs)], 'loss')['loss'].backward()
        gradients.append(model.backbone['high'][0].weight.grad)
    assert not torch.allclose(*gradients)
