"""Checkpoints are data: nothing in them is run."""

import http.server
import os
import pickle
import threading
from functools import partial

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from torch import nn
from torch.utils.data import Dataset

from mmseg_instancenet.engine import load_weights_only


class Network(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        return {'loss': self.layer(inputs).square().mean(), 'acc': inputs.mean()}


class Points(Dataset):
    metainfo = {'classes': ('cat', 'dog'), 'palette': [(1, 2, 3), (4, 5, 6)]}

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {'inputs': torch.full((2,), float(index))}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A runner and the checkpoint that it wrote."""
    work_dir = tmp_path_factory.mktemp('trained')
    runner = Runner(
        Network(),
        work_dir=str(work_dir),
        train_dataloader={
            'dataset': Points(),
            'batch_size': 2,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'collate_fn': {'type': 'default_collate'},
        },
        optim_wrapper={'optimizer': {'type': 'Adam', 'lr': 0.1}},
        param_scheduler={'type': 'PolyLR', 'power': 0.9, 'begin': 0, 'end': 4, 'by_epoch': False},
        train_cfg={'by_epoch': True, 'max_epochs': 2},
        default_hooks={'logger': {'type': 'LoggerHook', 'interval': 1}},
        default_scope='mmseg',
        log_level='WARNING',
        experiment_name='safe_checkpoint',
    )
    runner.train()
    # Whatever else a run of mmengine may have put there.
    runner.message_hub.update_scalar('train/by_numpy', np.float32(0.5))
    runner.message_hub.update_info('best', {'score': np.float64(0.25), 'ids': np.arange(3)})
    runner.save_checkpoint(str(work_dir), 'final.pth')
    return runner, work_dir / 'final.pth'


def check_content(checkpoint, runner):
    for name, value in runner.model.state_dict().items():
        assert torch.equal(checkpoint['state_dict'][name], value)
    assert checkpoint['meta']['iter'] == 4
    assert checkpoint['optimizer']['state'][0]['step'] == 4
    scalars = checkpoint['message_hub']['log_scalars']
    assert isinstance(scalars['train/loss'], HistoryBuffer)
    for name in ('train/loss', 'train/lr', 'train/by_numpy'):
        expected = runner.message_hub.get_scalar(name).data
        assert len(expected[0]) > 0
        assert all(np.array_equal(a, b) for a, b in zip(scalars[name].data, expected))
    assert scalars['train/loss'].mean() == runner.message_hub.get_scalar('train/loss').mean()
    assert scalars['train/loss'].statistics('mean') == scalars['train/loss'].mean()


def test_checkpoints_of_mmengines_runner_load(trained):
    runner, path = trained
    check_content(CheckpointLoader.load_checkpoint(str(path), map_location='cpu'), runner)
    check_content(load_weights_only(path), runner)
    with open(path, 'rb') as file:
        check_content(load_weights_only(file), runner)


def test_the_message_hub_resumes(trained):
    runner, path = trained
    hub = MessageHub('resumed')
    hub.load_state_dict(CheckpointLoader.load_checkpoint(str(path), map_location='cpu')['message_hub'])
    assert hub.get_scalar('train/loss').mean() == runner.message_hub.get_scalar('train/loss').mean()


def test_home_directory(trained, monkeypatch):
    runner, path = trained
    monkeypatch.setenv('HOME', str(path.parent))
    check_content(CheckpointLoader.load_checkpoint(f'~/{path.name}'), runner)


class Attack:
    """Unpickled carelessly it writes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


@pytest.fixture
def attack(tmp_path):
    """A checkpoint with weights and an attack, and the file that would betray it."""
    path, marker = tmp_path / 'attack.pth', tmp_path / 'marker'
    torch.save({'state_dict': Network().state_dict(), 'meta': Attack(marker)}, path)
    return path, marker


def test_the_attack_is_one(attack):
    path, marker = attack
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize('legacy', [False, True])
def test_code_in_a_checkpoint_is_refused_and_not_run(attack, tmp_path, legacy):
    path, marker = attack
    if legacy:
        torch.save({'meta': Attack(marker)}, path, _use_new_zipfile_serialization=False)
    for load in (
        CheckpointLoader.load_checkpoint,
        load_weights_only,
        partial(mmengine_checkpoint.load_checkpoint, Network()),
    ):
        with pytest.raises(pickle.UnpicklingError, match='attack.pth holds more than weights; it was not loaded'):
            load(str(path))
    with pytest.raises(pickle.UnpicklingError, match=r"weights_only=False\)\['state_dict'\]"):
        load_weights_only(path)
    assert not marker.exists()


class Attribute:
    """Unpickled it is an attribute of something that a checkpoint may name."""

    def __init__(self, owner, name):
        self.arguments = owner, name

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize(
    'owner, name',
    [(HistoryBuffer, '__init__'), (HistoryBuffer, '__class__'), (HistoryBuffer, 'update'), (np.ndarray, 'max')],
)
def test_of_attributes_only_the_statistics_of_the_log_are_allowed(tmp_path, owner, name):
    torch.save({'meta': Attribute(HistoryBuffer, 'mean')}, tmp_path / 'mean.pth')
    assert load_weights_only(tmp_path / 'mean.pth')['meta'] is HistoryBuffer.mean
    torch.save({'meta': Attribute(owner, name)}, tmp_path / 'attribute.pth')
    with pytest.raises(pickle.UnpicklingError, match='attribute.pth holds more than weights'):
        load_weights_only(tmp_path / 'attribute.pth')


def test_a_plain_pickle_is_refused_and_not_run(tmp_path):
    path, marker = tmp_path / 'plain.pkl', tmp_path / 'marker'
    path.write_bytes(pickle.dumps({'state_dict': Attack(marker)}, protocol=2))
    with pytest.raises(pickle.UnpicklingError, match='more than weights'):
        CheckpointLoader.load_checkpoint(str(path))
    assert not marker.exists()


def test_missing_file(tmp_path):
    path = str(tmp_path / 'none.pth')
    with pytest.raises(FileNotFoundError, match=f'checkpoint not found: {path}'):
        CheckpointLoader.load_checkpoint(path)


@pytest.fixture
def address(tmp_path, monkeypatch):
    """A server of the test's folder; torch's cache lies beside it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def test_downloads_and_names_of_models(address, attack, tmp_path, monkeypatch):
    weights = Network().state_dict()
    torch.save({'state_dict': weights}, tmp_path / 'good.pth')
    tables = {
        'get_torchvision_models': {'good': f'{address}/good.pth', 'bad': f'{address}/attack.pth'},
        'get_external_models': {'good': f'{address}/good.pth', 'bad': f'{address}/attack.pth'},
        'get_deprecated_model_names': {'old_good': 'good'},
    }
    for name, table in tables.items():
        monkeypatch.setattr(mmengine_checkpoint, name, lambda table=table: table)
    good = [f'{address}/good.pth', 'torchvision://good', 'modelzoo://good', 'open-mmlab://good', 'openmmlab://old_good']
    for source in good:
        state = CheckpointLoader.load_checkpoint(source, map_location='cpu')['state_dict']
        assert all(torch.equal(state[name], value) for name, value in weights.items())
    for source in (
        f'{address}/attack.pth',
        'torchvision://bad',
        'modelzoo://bad',
        'open-mmlab://bad',
        'openmmlab://bad',
    ):
        with pytest.raises(pickle.UnpicklingError):
            CheckpointLoader.load_checkpoint(source)
    assert (tmp_path / 'cache' / 'hub' / 'checkpoints' / 'attack.pth').exists()
    assert not attack[1].exists()
