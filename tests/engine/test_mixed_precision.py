"""The number format that --amp chooses, and what a training in it keeps in float32."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmseg.registry import DATASETS, MODELS
from torch import nn

from mmseg_instancenet.datasets.digits import write_digits
from mmseg_instancenet.engine import mixed_precision, prediction_type, use_mixed_precision

CONFIG = Path(__file__).parents[2] / 'configs/instancenet_digits.py'


def chosen(**wrapper) -> dict:
    config = Config({'optim_wrapper': {'type': 'OptimWrapper', 'clip_grad': {'max_norm': 10}, **wrapper}})
    use_mixed_precision(config)
    return config.optim_wrapper.to_dict()


@pytest.fixture
def machine(monkeypatch):
    """Puts another device in the place of this machine's."""

    def put(device: str, **answers) -> None:
        monkeypatch.setattr(mixed_precision, 'get_device', lambda: device)
        for name, value in answers.items():
            monkeypatch.setattr(mixed_precision, name, lambda value=value: value)
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'a GPU')

    return put


BFLOAT16 = {'type': 'BFloat16OptimWrapper', 'clip_grad': {'max_norm': 10}}
FLOAT16 = {'type': 'AmpOptimWrapper', 'loss_scale': 'dynamic', 'clip_grad': {'max_norm': 10}}
FLOAT32 = {'type': 'OptimWrapper', 'clip_grad': {'max_norm': 10}}


@pytest.mark.parametrize(
    ('device', 'answers', 'expected', 'line'),
    [
        ('cuda', dict(gpu_has_bfloat16=True), BFLOAT16, '--amp: bfloat16 on a GPU'),
        ('cuda', dict(gpu_has_bfloat16=False), FLOAT16, '--amp: float16 with a loss scale on a GPU'),
        ('cpu', dict(cpu_has_bfloat16=True), BFLOAT16, '--amp: bfloat16 on the CPU'),
        ('cpu', dict(cpu_has_bfloat16=False), FLOAT32, '--amp: float32, since this CPU has no bfloat16 instructions'),
        ('mps', {}, FLOAT32, '--amp: float32, since .* not for mps'),
    ],
)
def test_choice(device, answers, expected, line, machine, capsys):
    machine(device, **answers)
    # Whatever the config had: settings of another wrapper would be refused by this one.
    for before in ({}, {'type': 'AmpOptimWrapper', 'loss_scale': 512.0, 'dtype': 'float16'}):
        if before.get('type') != expected['type']:
            assert chosen(**before) == expected
            printed = capsys.readouterr().out
            assert printed.count('\n') == 1 and re.match(line, printed)


@pytest.mark.parametrize(
    ('device', 'answers', 'expected', 'line'),
    [
        ('cuda', {}, torch.float16, '--amp: float16\n'),
        ('cpu', dict(cpu_has_bfloat16=True), torch.bfloat16, '--amp: bfloat16 on the CPU\n'),
        (
            'cpu',
            dict(cpu_has_bfloat16=False),
            torch.float32,
            '--amp: float32, since this CPU has no bfloat16 instructions',
        ),
        ('mps', {}, torch.float32, '--amp: float32, since .* not for mps'),
    ],
)
def test_choice_of_a_prediction(device, answers, expected, line, machine, capsys):
    machine(device, **answers)
    assert prediction_type(device) == expected
    assert re.match(line, capsys.readouterr().out)


def test_settings_of_a_wrapper_of_the_chosen_type_stay(machine):
    machine('cuda', gpu_has_bfloat16=False)
    own = {'type': 'AmpOptimWrapper', 'loss_scale': 512.0, 'dtype': 'float16', 'clip_grad': {'max_norm': 10}}
    assert chosen(**own) == own


@pytest.mark.parametrize(
    ('capabilities', 'expected'),
    [
        ({'avx512_bf16': True}, True),
        ({'amx_bf16': True, 'avx512_bf16': False}, True),
        ({'avx512_f': True, 'avx512_bf16': False, 'amx_bf16': False, 'amx_int8': True}, False),
        ({'architecture': 'aarch64', 'bf16': True}, False),  # not tried
    ],
)
def test_instructions_that_torch_lists(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: capabilities, raising=False)
    assert mixed_precision.cpu_has_bfloat16() is expected
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    assert mixed_precision.cpu_has_bfloat16() is False


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 vp\n\nflags\t\t: fpu\n', True),
        ('flags\t: amx_tile amx_bf16\n', True),
        ('flags\t: avx512f avx512_bf16x amx_int8\nbugs\t: avx512_bf16\n', False),
        ('Features\t: fp asimd\n', False),
        (None, False),
    ],
    ids=['AVX512-BF16', 'AMX', 'neither', 'Arm', 'no such file'],
)
def test_instructions_that_linux_lists(text, expected, tmp_path, monkeypatch):
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    if text is not None:
        (tmp_path / 'cpuinfo').write_text(text)
    monkeypatch.setattr(mixed_precision, 'Path', lambda name: tmp_path / Path(name).name)
    assert mixed_precision.cpu_has_bfloat16() is expected


@pytest.mark.skipif(
    sys.platform != 'linux' or not hasattr(torch.cpu, 'get_capabilities'), reason='one source of two is not here'
)
def test_both_lists_agree_on_this_machine(monkeypatch):
    by_torch = mixed_precision.cpu_has_bfloat16()
    monkeypatch.delattr(torch.cpu, 'get_capabilities')
    assert mixed_precision.cpu_has_bfloat16() == by_torch


@pytest.mark.parametrize(('capability', 'expected'), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpu(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.version, 'hip', None)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: capability)
    assert mixed_precision.gpu_has_bfloat16() is expected
    monkeypatch.setattr(torch.version, 'hip', '6.0')
    assert mixed_precision.gpu_has_bfloat16() is True


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp('digits')
    write_digits(folder, num_train=4, num_val=1)
    return folder


def train(folder: Path, iterations: int) -> dict:
    """A small network of digits trained with the wrapper that --amp chose: types and values of the last iteration."""
    config = Config.fromfile(CONFIG)
    config.model.backbone.base_channels = 4
    config.model.decode_head.update(in_channels=4, channels=8)
    use_mixed_precision(config)
    torch.manual_seed(0)
    np.random.seed(0)  # of the flips
    model = MODELS.build(config.model).train()
    model.init_weights()
    seen, before = {}, {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model.backbone.register_forward_hook(lambda _, __, outputs: seen.update(features={x.dtype for x in outputs}))
    for name in ('loss_decode', 'loss_embedding'):
        getattr(model.decode_head, name).register_forward_hook(lambda _, __, loss, name=name: seen.update({name: loss}))
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    dataset = DATASETS.build(dict(config.train_dataloader.dataset, data_root=str(folder)))
    for _ in range(iterations):
        batch = pseudo_collate([dataset[index] for index in range(4)])
        seen['losses'] = model.train_step(batch, wrapper)
    return dict(seen, model=model, wrapper=wrapper, before=before)


@pytest.mark.parametrize('has_bfloat16', [True, False])
def test_training_on_a_cpu(has_bfloat16, digits, machine):
    machine('cpu', cpu_has_bfloat16=has_bfloat16)
    trained = train(digits, iterations=2)
    assert type(trained['wrapper']).__name__ == ('BFloat16OptimWrapper' if has_bfloat16 else 'OptimWrapper')
    assert trained['features'] == {torch.bfloat16 if has_bfloat16 else torch.float32}
    assert trained['loss_decode'].dtype == trained['loss_embedding']['loss_embedding'].dtype == torch.float32
    for name, weight in trained['model'].named_parameters():
        assert weight.dtype == torch.float32
        assert torch.isfinite(weight).all() and not torch.equal(weight, trained['before'][name]), name
    for module in trained['model'].modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean.dtype == module.running_var.dtype == torch.float32


def test_losses_in_bfloat16_are_close_to_those_in_float32(digits, machine):
    losses = []
    for has_bfloat16 in (True, False):
        machine('cpu', cpu_has_bfloat16=has_bfloat16)
        losses.append({name: value.item() for name, value in train(digits, iterations=1)['losses'].items()})
    # Eight binary digits: close, and not the same.
    assert losses[0] == pytest.approx(losses[1], rel=0.05, abs=0.01)
    assert losses[0]['loss'] != losses[1]['loss']


def test_training_in_bfloat16_repeats_to_the_bit(digits, machine):
    machine('cpu', cpu_has_bfloat16=True)
    weights = [train(digits, iterations=2)['model'].state_dict() for _ in range(2)]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
