"""Checkpoints load without running code from them."""

import codecs
import http.server
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader
from packaging.version import parse as parse_version
from programs import run_program
from small_training import Network, make_runner

from mmseg_instancenet.engine import load_weights_only, mmengine_pickle, register_safe_loaders, safe_checkpoint
from mmseg_instancenet.engine.plain_log_hook import to_plain


@pytest.fixture(autouse=True)
def safe_loaders(monkeypatch):
    """Replaces MMEngine's loaders by ours for one test."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    register_safe_loaders()


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A runner and the checkpoint that it wrote, as MMEngine writes it."""
    work_dir = tmp_path_factory.mktemp('trained')
    runner = make_runner(work_dir, plain=False)
    runner.train()
    # Whatever else a run of mmengine may have put there.
    runner.message_hub.update_scalar('train/by_numpy', np.float32(0.5))
    runner.message_hub.update_info('best', {'score': np.float64(0.25), 'ids': np.arange(3)})
    runner.save_checkpoint(str(work_dir), 'final.pth')
    return runner, work_dir / 'final.pth'


def check_content(checkpoint, runner):
    for name, value in runner.model.state_dict().items():
        # A runner with a GPU has its model there.
        assert torch.equal(checkpoint['state_dict'][name].cpu(), value.cpu())
    assert checkpoint['meta']['iter'] == 4
    assert checkpoint['optimizer']['state'][0]['step'] == 4
    scalars = checkpoint['message_hub']['log_scalars']
    assert isinstance(scalars['train/loss'], HistoryBuffer)
    for name in ('train/loss', 'train/lr', 'train/by_numpy'):
        expected = runner.message_hub.get_scalar(name).data
        assert len(expected[0]) > 0
        assert all(np.array_equal(a, b) for a, b in zip(scalars[name].data, expected, strict=True))
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


def test_with_the_hook_a_checkpoint_holds_plain_values_alone(tmp_path):
    runner = make_runner(tmp_path, plain=True)
    runner.train()
    runner.message_hub.update_scalar('train/by_numpy', np.float32(0.5))
    runner.message_hub.update_info('best', {'score': np.float64(0.25), 'ids': [np.arange(3)]})
    runner.save_checkpoint(str(tmp_path), 'final.pth')
    checkpoint = torch.load(tmp_path / 'final.pth', weights_only=True)  # torch's own, which knows nothing of MMEngine
    hub = checkpoint['message_hub']
    for name in ('train/loss', 'train/lr', 'train/by_numpy'):
        values, counts = runner.message_hub.get_scalar(name).data
        assert len(values) > 0
        assert hub['log_scalars'][name]['log_history'].tolist() == values.tolist()
        assert hub['log_scalars'][name]['count_history'].tolist() == counts.tolist()
        assert hub['log_scalars'][name]['max_length'] == 1000000
    assert hub['runtime_info']['best']['score'] == 0.25 and type(hub['runtime_info']['best']['score']) is float
    assert hub['runtime_info']['best']['ids'][0].tolist() == [0, 1, 2]
    assert hub['resumed_keys'] == runner.message_hub.state_dict()['resumed_keys']
    # Writing a checkpoint leaves the run as it is, and reading gives MMEngine's own class back.
    assert isinstance(runner.message_hub.get_scalar('train/loss'), HistoryBuffer)
    resumed = make_runner(tmp_path / 'resumed', plain=True)
    resumed.resume(str(tmp_path / 'final.pth'))
    before, after = (r.message_hub.get_scalar('train/loss') for r in (runner, resumed))
    assert [a.tolist() for a in after.data] == [a.tolist() for a in before.data]
    assert after.mean() == before.mean() and after.max_length == before.max_length


def test_plain_values_of_other_kinds_stay():
    value = {'tuple': (1, 'a', None), 'list': [2.5], 'tensor': torch.ones(2), 'size': torch.Size([3])}
    plain = to_plain(value)
    assert plain['tuple'] == (1, 'a', None) and plain['list'] == [2.5] and plain['tensor'] is value['tensor']
    assert plain['size'] is value['size'] and plain is not value


@pytest.mark.parametrize('name', ['torch-2.5.1', 'torch-2.15.0'])
@pytest.mark.parametrize('plain', [False, True])
def test_trainings_resume_from_files_of_other_versions(name, plain, tmp_path):
    """Half of a training by torch 2.5.1 and numpy 1, without PlainLogHook, and by torch 2.15.0 and numpy 2, with it.

    Whichever torch runs this test, the second half ends where a training without interruption does.
    """
    whole = make_runner(tmp_path / 'whole', plain, shuffle=False)
    whole.train()
    file = Path(__file__).parent / 'checkpoints' / f'{name}.pth'
    runner = make_runner(tmp_path / 'resumed', plain, shuffle=False, load_from=str(file), resume=True)
    runner.train()
    assert runner.iter == whole.iter == 4
    for value, expected in zip(runner.model.state_dict().values(), whole.model.state_dict().values(), strict=True):
        torch.testing.assert_close(value.cpu(), expected.cpu(), rtol=0, atol=1e-6)
    losses, expected = (r.message_hub.get_scalar('train/loss').data[0].tolist() for r in (runner, whole))
    assert losses[-2:] == pytest.approx(expected[-2:], abs=1e-6)
    if plain or name == 'torch-2.5.1':
        assert losses == pytest.approx(expected, abs=1e-6) and len(losses) == 4
    else:  # without the hook MMEngine leaves the history of the log behind, and the training goes on
        assert len(losses) == 2


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


class Call:
    """Unpickled, it becomes the result of a function for some arguments, with a state set on it if given."""

    def __init__(self, function, *arguments, state=None):
        self.content = (function, arguments, state) if state else (function, arguments)

    def __reduce__(self):
        return self.content


def refused(tmp_path, content):
    torch.save({'meta': content}, tmp_path / 'refused.pth')
    with pytest.raises(pickle.UnpicklingError, match='refused.pth holds more than weights') as error:
        load_weights_only(tmp_path / 'refused.pth')
    return str(error.value)


@pytest.mark.parametrize(
    'owner, name',
    [(HistoryBuffer, '__init__'), (HistoryBuffer, '__class__'), (HistoryBuffer, 'update'), (np.ndarray, 'max')],
)
def test_of_attributes_only_the_statistics_of_the_log_are_allowed(tmp_path, owner, name):
    torch.save({'meta': Call(getattr, HistoryBuffer, 'mean')}, tmp_path / 'mean.pth')
    assert load_weights_only(tmp_path / 'mean.pth')['meta'] is None  # nothing is looked up for the file
    assert 'is not part of a checkpoint of MMEngine' in refused(tmp_path, Call(getattr, owner, name))


OBJECTS = np.array([{}, []], dtype=object)


@pytest.mark.parametrize(
    'content, cause',
    [
        (OBJECTS, "numeric numpy dtype, got 'O8'"),
        (np.array(['text']), "numeric numpy dtype, got 'U4'"),
        (Call(np.ndarray, (10,)), 'not callable'),
        (Call(print, 'text'), 'print is not part of a checkpoint of MMEngine'),
        (np.random.RandomState(0), 'numpy.random.* is not part of a checkpoint of MMEngine'),
    ],
)
def test_content_that_mmengine_does_not_write_is_refused(tmp_path, content, cause):
    assert re.search(cause, refused(tmp_path, content))


@pytest.mark.parametrize(
    'content, cause',
    [
        (Call(codecs.encode, 'text', 'rot13'), "written as 'latin1', got 'rot13'"),
        (Call(torch._utils._rebuild_tensor_v2), 'not a checkpoint of MMEngine: TypeError'),
    ],
)
def test_allowed_functions_with_arguments_that_mmengine_does_not_write(content, cause):
    with pytest.raises(pickle.UnpicklingError, match=cause):
        mmengine_pickle.load(io.BytesIO(pickle.dumps(content, protocol=2)))


def test_a_checkpoint_cannot_change_the_functions_that_it_may_call(tmp_path):
    """BUILD, pickle's instruction to set attributes, given the function itself instead of an object that was made."""
    name = b'ctorch._utils\n_rebuild_tensor_v2\n'
    stream = b'\x80\x02' + name + b'N}X\x08\x00\x00\x00evil_attK\x01s\x86b.'
    with pytest.raises(pickle.UnpicklingError, match='may call _rebuild_tensor_v2, not change it'):
        mmengine_pickle.load(io.BytesIO(stream))
    stream = b'\x80\x02cmmengine.logging.history_buffer\nHistoryBuffer\nN}X\x04\x00\x00\x00meanK\x01s\x86b.'
    with pytest.raises(pickle.UnpicklingError, match='not a checkpoint of MMEngine'):
        mmengine_pickle.load(io.BytesIO(stream))
    assert callable(HistoryBuffer.mean) and not hasattr(torch._utils._rebuild_tensor_v2, 'evil_att')


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


def requests_of(address, tmp_path, monkeypatch, local_rank, arrives=False):
    """Number of requests of one of several processes before and after its first barrier, at which the file may appear."""
    torch.save({'state_dict': Network().state_dict()}, tmp_path / 'good.pth')
    file = tmp_path / 'cache/hub/checkpoints/good.pth'
    asked, barriers = [], []
    real_download = torch.hub.download_url_to_file

    def download(url, path, progress):
        asked.append(len(barriers))
        real_download(url, path, progress=progress)

    def barrier():
        barriers.append(file.exists())
        if arrives and len(barriers) == 1:
            file.parent.mkdir(parents=True)
            shutil.copy(tmp_path / 'good.pth', file)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(safe_checkpoint, 'barrier', barrier)
    monkeypatch.setenv('LOCAL_RANK', local_rank)
    state = CheckpointLoader.load_checkpoint(f'{address}/good.pth', map_location='cpu')['state_dict']
    assert list(state) == ['layer.weight', 'layer.bias']
    return asked, barriers


def test_the_first_process_of_a_machine_downloads_while_the_others_wait(address, tmp_path, monkeypatch):
    """On every machine: the local rank decides."""
    asked, barriers = requests_of(address, tmp_path, monkeypatch, local_rank='0')
    assert asked == [0] and barriers == [True, True]


def test_another_process_finds_what_the_first_has_downloaded(address, tmp_path, monkeypatch):
    asked, barriers = requests_of(address, tmp_path, monkeypatch, local_rank='3', arrives=True)
    assert asked == [] and barriers == [False, True]


def test_a_machine_without_a_rank_0_downloads_all_the_same(address, tmp_path, monkeypatch):
    """Slurm may put ranks 4 to 7 of eight on a machine of their own."""
    asked, barriers = requests_of(address, tmp_path, monkeypatch, local_rank='4')
    assert asked == [1] and barriers == [False, True]


def test_importing_the_package_leaves_mmengines_loaders_alone():
    code = """
from mmengine.runner import CheckpointLoader
from packaging.version import parse as parse_version
before = dict(CheckpointLoader._schemes)
import mmseg_instancenet.apis.command_line, mmseg_instancenet.analysis
same = dict(CheckpointLoader._schemes) == before
mmseg_instancenet.engine.register_safe_loaders()
print(same, *sorted({loader.__module__ for prefix, loader in CheckpointLoader._schemes.items() if before[prefix] != loader}))
"""
    process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert process.stdout.splitlines()[-1:] == ['True mmseg_instancenet.engine.safe_checkpoint'], process.stderr


@pytest.mark.parametrize('line', [True, False])
def test_a_line_in_the_config_makes_mmengine_read_its_own_checkpoints(line, tmp_path):
    imports = ['mmseg_instancenet', *(['mmseg_instancenet.engine.use_safe_loaders'] * line)]
    (tmp_path / 'config.py').write_text(f'custom_imports = dict(imports={imports}, allow_failed_imports=False)')
    code = """
import os, sys
sys.path.insert(0, os.getcwd())
from mmengine.config import Config
from small_training import make_runner
Config.fromfile(sys.argv[1])
runner = make_runner(sys.argv[2], plain=False, load_from='checkpoints/torch-2.5.1.pth', resume=True)
runner.train()
print(runner.iter)
"""
    # The onedl fork of MMEngine reads its own checkpoints in a way of its own.
    loads = (
        line
        or parse_version(torch.__version__) < parse_version('2.6')
        or hasattr(mmengine_checkpoint, '_safe_torch_load')
    )
    (tmp_path / 'program.py').write_text(code)
    program = (tmp_path / 'program.py', tmp_path / 'config.py', tmp_path / 'run')
    output = run_program(*program, cwd=Path(__file__).parent, succeeds=loads)
    assert output.splitlines()[-1] == '4' if loads else 'Weights only load failed' in output
