"""Checkpoints that are refused by their container, and damaged ones."""

import io
import pickle
import tarfile
import zipfile

import mmengine.runner.checkpoint as mmengine_checkpoint
import pytest
import torch
from mmengine.runner import CheckpointLoader
from test_safe_checkpoint import Attack

from mmseg_instancenet.engine import load_weights_only, register_safe_loaders
from mmseg_instancenet.engine.checkpoint_container import ContainerError

WEIGHTS = {'state_dict': {'a': torch.arange(1000.0)}, 'meta': {'epoch': 3}}


def write_tar(path, content: object) -> None:
    """As torch wrote checkpoints until 2017."""
    with tarfile.open(path, 'w:') as archive:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            data = pickle.dumps(content, protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize('code', [False, True])
def test_a_tar_is_refused(tmp_path, code):
    path, marker = tmp_path / 'old.pth', tmp_path / 'marker'
    write_tar(path, Attack(marker) if code else {})
    with pytest.raises(
        ContainerError, match=r'old.pth: .* got a tar file.*torch.load\(OLD, weights_only=False\), NEW\)'
    ):
        load_weights_only(path)
    assert not marker.exists()


def test_a_program_of_torchscript_is_refused(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / 'program.pth')
    with pytest.raises(
        ContainerError, match=r'program.pth: expected weights, got a program .*torch.jit.load\(OLD\).state_dict'
    ):
        load_weights_only(tmp_path / 'program.pth')


def test_packed_parts_are_refused_by_the_size_of_the_file(tmp_path):
    torch.save({'a': torch.zeros(10**6)}, tmp_path / 'whole.pth')
    with (
        zipfile.ZipFile(tmp_path / 'whole.pth') as whole,
        zipfile.ZipFile(tmp_path / 'packed.pth', 'w', zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in whole.namelist():
            packed.writestr(part, whole.read(part))
    size = (tmp_path / 'packed.pth').stat().st_size
    assert size < 20_000
    with pytest.raises(
        ContainerError, match=rf'packed.pth: expected parts of at most the {size:,} bytes.* got 4,0\d\d,\d\d\d'
    ):
        load_weights_only(tmp_path / 'packed.pth')
    assert load_weights_only(tmp_path / 'whole.pth')['a'].shape == (10**6,)


@pytest.mark.parametrize('zipped', [False, True])
@pytest.mark.parametrize('share', [0, 0.01, 0.3, 0.7, 0.99])
def test_a_part_of_a_checkpoint_is_named(tmp_path, zipped, share):
    path = tmp_path / 'part.pth'
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    kept = int(share * len(content))
    path.write_bytes(content[:kept])
    with pytest.raises(
        pickle.UnpicklingError, match=f'part.pth: expected a whole checkpoint, got {kept} bytes that cannot be'
    ):
        load_weights_only(path)


@pytest.mark.parametrize('content', [bytes(100_000), b'text ' * 1000, b'<html></html>', b'version https://git-lfs'])
def test_another_file_is_named(tmp_path, content):
    (tmp_path / 'other.pth').write_bytes(content)
    with pytest.raises(pickle.UnpicklingError, match='other.pth: expected a whole checkpoint, got') as error:
        load_weights_only(tmp_path / 'other.pth')
    assert not isinstance(error.value, ContainerError)


def test_checkpoints_of_both_forms_load_from_files_and_from_memory(tmp_path):
    for zipped in (False, True):
        torch.save(WEIGHTS, tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
        for file in (tmp_path / 'a.pth', str(tmp_path / 'a.pth'), io.BytesIO((tmp_path / 'a.pth').read_bytes())):
            loaded = load_weights_only(file)
            assert torch.equal(loaded['state_dict']['a'], WEIGHTS['state_dict']['a']) and loaded['meta'] == {'epoch': 3}


def test_no_loader_of_mmengine_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    register_safe_loaders()
    left = {
        prefix for prefix, loader in CheckpointLoader._schemes.items() if not loader.__module__.startswith('mmseg_inst')
    }
    assert left == set()

    class Backend:
        def get(self, name):
            return (tmp_path / name.removeprefix('s3://')).read_bytes()

    monkeypatch.setattr('mmseg_instancenet.engine.safe_checkpoint.get_file_backend', lambda *_, **__: Backend())
    torch.save(WEIGHTS, tmp_path / 'good.pth')
    torch.save({'meta': Attack(tmp_path / 'marker')}, tmp_path / 'bad.pth')
    assert CheckpointLoader.load_checkpoint('s3://good.pth')['meta'] == {'epoch': 3}
    with pytest.raises(pickle.UnpicklingError, match='s3://bad.pth holds more than weights'):
        CheckpointLoader.load_checkpoint('s3://bad.pth')
    with pytest.raises(ValueError, match='pavi://a: expected a file or an address'):
        CheckpointLoader.load_checkpoint('pavi://a')
    monkeypatch.setattr(mmengine_checkpoint, 'get_mmcls_models', lambda: {'net': 'http://nowhere/net.pth'})
    monkeypatch.setattr(
        'mmseg_instancenet.engine.safe_checkpoint._load_from_http',
        lambda address, place: {'state_dict': {'backbone.a': address}},
    )
    assert CheckpointLoader.load_checkpoint('mmcls://net')['state_dict'] == {'a': 'http://nowhere/net.pth'}
    assert not (tmp_path / 'marker').exists()
