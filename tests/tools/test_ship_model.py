"""tools/ship_model.py: from a checkpoint of a training to the three files in the package."""

import copy
import hashlib
import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmseg.registry import MODELS
from untrained_digits import untrained_digits

from mmseg_instancenet.apis import init_model, segment_image, shipped, shipped_models

TOOL = Path(__file__).parents[2] / 'tools/ship_model.py'
DIGITS = TOOL.parents[1] / 'configs/instancenet_digits.py'
MOMENTUM = 0.25


def ship(monkeypatch, *arguments) -> None:
    """Runs the tool in this process."""
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    monkeypatch.setattr(shipped, 'FOLDER', shipped.FOLDER)  # the tool sets it, and the test gives it back
    runpy.run_path(str(TOOL), run_name='__main__')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Config and checkpoint of a training with EMAHook, the average by hand, and the number of parameters."""
    folder = tmp_path_factory.mktemp('trained')
    config, _ = untrained_digits(DIGITS, folder, num_val=2)
    config.work_dir, config.D = str(folder / 'run'), f'{folder}/data/'
    config.randomness = dict(seed=7)
    config.dump(folder / 'config.py')

    model = MODELS.build(config.model)
    model.load_state_dict(torch.load(folder / 'untrained.pth', weights_only=True)['state_dict'])
    hook, runner = EMAHook(momentum=MOMENTUM, update_buffers=True), SimpleNamespace(model=model, iter=0, epoch=0)
    hook.before_run(runner)
    states = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=generator))
        states.append(copy.deepcopy(model.state_dict()))
        hook.after_train_iter(runner, 0)
    checkpoint = {
        'meta': {'epoch': 2, 'cfg': 'text', 'dataset_meta': {'classes': tuple('0123456789'), 'CLASSES': 1}},
        'state_dict': model.state_dict(),
        'optimizer': {'state': {0: torch.zeros(1000)}},
    }
    hook.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, folder / 'epoch_2.pth')
    average = {
        name: (1 - MOMENTUM) * first + MOMENTUM * states[1][name] if first.is_floating_point() else first
        for name, first in states[0].items()
    }
    (folder / 'results.json').write_text(json.dumps({'counting/SBD': 0.91237, 'time': 3.0, 'data_time': 1.0}))
    return folder, average, sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def arguments(trained, tmp_path):
    folder = trained[0]
    return [
        folder / 'config.py', folder / 'epoch_2.pth', 'tiny', '--results', folder / 'results.json', 'coco/segm_mAP=0.5',
        '--data', 'Digits', '--licence', 'CC0-1.0', '--command', 'python tools/train.py config.py',
        '--time', '2 s on a laptop', '--out', tmp_path / 'shipped',
    ]  # fmt: skip


def test_the_averaged_weights_go_into_the_package(trained, arguments, tmp_path, monkeypatch, capsys):
    folder, average, _ = trained
    image = folder / 'data/val/00001.png'
    ship(monkeypatch, *arguments, '--check', image)
    output = capsys.readouterr().out
    assert 'averaged by EMAHook' in output
    assert {path.name for path in (tmp_path / 'shipped').iterdir()} == {'tiny.py', 'tiny.pth', 'tiny.yml'}

    checkpoint = torch.load(tmp_path / 'shipped/tiny.pth', weights_only=True)
    assert checkpoint.keys() == {'meta', 'state_dict'}
    assert checkpoint['meta'] == {'dataset_meta': {'classes': list('0123456789')}}
    for name, values in checkpoint['state_dict'].items():
        if average[name].is_floating_point():
            assert values.dtype == torch.float16
            torch.testing.assert_close(values.float(), average[name], rtol=2**-11 + 1e-6, atol=2**-24)
        else:
            assert values.dtype == torch.int64 and values == 0
    assert checkpoint['state_dict'].keys() == average.keys()

    # The line of the check, from both models.
    monkeypatch.setattr(shipped, 'FOLDER', tmp_path / 'shipped')
    assert shipped_models() == ['tiny']
    full = init_model(str(folder / 'config.py'), device='cpu')
    full.load_state_dict(average)
    first, second = (
        segment_image(model, image).pred_instance_map.data for model in (full, init_model('tiny', device='cpu'))
    )
    assert f'{first.max()} objects in float32, {second.max()} shipped' in output
    if first.equal(second):
        assert '100.000 % of the pixels equal' in output


def test_the_config_is_complete_and_of_no_machine(trained, arguments, tmp_path, monkeypatch):
    folder = trained[0]
    ship(monkeypatch, *arguments)
    text = (tmp_path / 'shipped/tiny.py').read_text()
    assert str(folder) not in text and '/tmp' not in text and '_base_' not in text
    config, original = Config.fromfile(tmp_path / 'shipped/tiny.py'), Config.fromfile(folder / 'config.py')
    assert config.model == original.model and config.custom_imports == original.custom_imports
    assert config.train_dataloader.dataset.pipeline == original.train_dataloader.dataset.pipeline
    assert config.optim_wrapper == original.optim_wrapper and config.default_hooks == original.default_hooks
    assert config.test_dataloader.dataset.data_root == 'data/data' and 'D' not in config
    assert 'work_dir' not in config and 'load_from' not in config
    shipped_lines = text.splitlines()
    assert shipped_lines[0] == '"""The shipped model \'tiny\', complete; written by tools/ship_model.py."""'


def test_the_metafile_names_the_origin(trained, arguments, tmp_path, monkeypatch):
    ship(monkeypatch, *arguments)
    (model,) = yaml.safe_load((tmp_path / 'shipped/tiny.yml').read_text())['Models']
    content = (tmp_path / 'shipped/tiny.pth').read_bytes()
    *_, parameters = trained
    assert model == {
        'Name': 'tiny',
        'In Collection': 'InstanceNet',
        'Paper': {'Title': 'InstanceNet: object instance segmentation using DNN (Gao 2020)'},
        'Config': 'tiny.py',
        'Weights': 'tiny.pth',
        'Metadata': {
            'Training Data': 'Digits',
            'Training Data Licence': 'CC0-1.0',
            'Training Command': 'python tools/train.py config.py',
            'Training Seed': 7,
            'Training Time': '2 s on a laptop',
            'Epochs': 2,
            'Weights Averaged': True,
            'Parameters': parameters,
            'File Size (bytes)': len(content),
            'SHA256': hashlib.sha256(content).hexdigest(),
        },
        'Results': [
            {
                'Task': 'Instance Segmentation',
                'Dataset': 'Digits, val.json',
                'Metrics': {'counting/SBD': 0.9124, 'coco/segm_mAP': 0.5},
            }
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda values: values.fill_(float('nan')),
            'finite weights, got NaN or infinity in decode_head.conv_seg.weight',
        ),
        (
            lambda values: values.fill_(7e4),
            'up to 65504, the largest of float16, got 70000 in decode_head.conv_seg.weight',
        ),
        (lambda values: values.resize_(1), 'expected the weights of .*config.py, got others in .*conv_seg.weight'),
    ],
)
def test_weights_that_cannot_be_shipped_write_nothing(trained, arguments, tmp_path, monkeypatch, change, message):
    checkpoint = torch.load(trained[0] / 'epoch_2.pth', weights_only=True)
    change(checkpoint['state_dict']['decode_head.conv_seg.weight'])
    arguments[1] = tmp_path / 'bad.pth'
    torch.save(checkpoint, arguments[1])
    with pytest.raises(SystemExit, match=f'(?s){message}'):
        ship(monkeypatch, *arguments)
    assert not (tmp_path / 'shipped').exists()


@pytest.fixture(scope='module')
def tool() -> dict:
    return runpy.run_path(str(TOOL))


def test_weights_above_the_limit_are_refused(tool):
    values = torch.zeros(2_500_000, dtype=torch.float16)
    with pytest.raises(SystemExit, match='at most 5000000 bytes, got 50'):
        tool['write_weights']({'x': values}, {})
    assert 4_900_000 < len(tool['write_weights']({'x': values[:2_450_000].clone()}, {})) <= 5_000_000


def test_a_view_is_saved_without_what_it_is_a_part_of(tool):
    halves = tool['to_half']({'x': torch.zeros(1_000_000, dtype=torch.float16)[:3], 'n': torch.tensor(4)})
    assert len(tool['write_weights'](halves, {})) < 5_000 and halves['n'].dtype == torch.int64


def test_paths_that_cannot_be_moved_are_named(tool):
    data = dict(data_root='/x/set/', file='/x/set/train.json', root='/x/set')
    config = Config(dict(test_dataloader=data, custom_hooks=[dict(c='/y/z')], work_dir='/w', variable='/v'))
    with pytest.raises(SystemExit, match=r'got custom_hooks\.0\.c=/y/z: make'):
        tool['without_machine'](config)
    config.custom_hooks[0].c = 'y/z'
    assert tool['without_machine'](config).to_dict() == {
        'test_dataloader': {'data_root': 'data/set/', 'file': 'data/set/train.json', 'root': 'data/set'},
        'custom_hooks': [{'c': 'y/z'}],
    }


@pytest.mark.parametrize('argument', ['no_number', 'a=b', '=', __file__])
def test_results_that_are_no_numbers_are_refused(tool, argument):
    with pytest.raises(SystemExit, match='expected KEY=NUMBER or a JSON file'):
        tool['read_results']([argument])


@pytest.mark.parametrize(
    ('first', 'second', 'expected'),
    [
        ([[0, 1, 1, 2]], [[0, 2, 2, 1]], 1.0),  # other numbers
        ([[0, 1, 1, 2]], [[0, 1, 1, 1]], 0.75),  # two became one
        ([[0, 1, 1, 1]], [[0, 1, 1, 0]], 0.75),
        ([[0, 0, 0, 0]], [[0, 0, 0, 3]], 0.75),
        ([[1, 1, 1, 1]], [[0, 0, 0, 0]], 0.0),  # background is no instance
        ([[1, 1, 1, 2, 2, 2]], [[1, 1, 2, 2, 3, 3]], 4 / 6),
    ],
)
def test_share_of_equal_pixels(tool, first, second, expected):
    assert tool['share_of_equal_pixels'](np.array(first), np.array(second)) == expected
