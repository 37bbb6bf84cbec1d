"""Models inside the package: found by name, with their weights, from a checkout and from a wheel."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from mmengine.config import Config
from untrained_digits import untrained_digits

from mmseg_instancenet.apis import example_image, init_model, shipped, shipped_models
from mmseg_instancenet.apis.model_files import config_and_checkpoint

REPOSITORY = Path(__file__).parents[2]
BUILT_FROM = (
    *('mmseg_instancenet', 'configs', 'tools', 'model-index.yml'),
    *('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'),
)


def write_stand_in(folder: Path, scratch: Path, name: str = 'tiny') -> dict[str, torch.Tensor]:
    """Writes the config and the float16 weights of a narrow, untrained network; gives the weights in float32."""
    config, _ = untrained_digits(REPOSITORY / 'configs/instancenet_digits.py', scratch, num_val=1)
    checkpoint = torch.load(scratch / 'untrained.pth', weights_only=True)
    weights = checkpoint['state_dict']
    checkpoint['state_dict'] = {key: x.half() if x.is_floating_point() else x for key, x in weights.items()}
    config.dump(folder / f'{name}.py')
    torch.save(checkpoint, folder / f'{name}.pth')
    return weights


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> dict[str, torch.Tensor]:
    """The weights of the only shipped model, ``tiny``."""
    folder = tmp_path / 'shipped'
    folder.mkdir()
    monkeypatch.setattr(shipped, 'FOLDER', folder)
    return write_stand_in(folder, tmp_path)


def test_a_name_brings_config_and_weights(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tiny').mkdir()  # a folder of that name changes nothing
    assert shipped_models() == ['tiny']
    model = init_model('tiny', device='cpu')
    found = model.state_dict()
    assert list(found) == list(tiny) and not model.training
    for name, values in tiny.items():
        assert found[name].dtype == values.dtype
        assert found[name].equal(values.half().float() if values.is_floating_point() else values), name
    assert {values.dtype for values in found.values()} == {torch.float32, torch.int64}
    assert model.dataset_meta['classes'] == tuple('0123456789')


def test_another_checkpoint_takes_the_place_of_the_weights(tiny, tmp_path):
    model = init_model('tiny', str(tmp_path / 'untrained.pth'), device='cpu')
    name = 'decode_head.conv_seg.weight'
    assert model.state_dict()[name].equal(tiny[name]) and not tiny[name].equal(tiny[name].half().float())


def test_a_model_without_weights_is_not_listed(tiny):
    (shipped.FOLDER / 'half_written.py').touch()
    assert shipped_models() == ['tiny']


@pytest.mark.parametrize('name', ['nuclear', 'configs/nothing.py', ''])
def test_a_wrong_name_gets_the_names_that_there_are(tiny, name):
    with pytest.raises(
        FileNotFoundError, match=rf"shipped model \(tiny\), a config file or the folder of a training, got '{name}'"
    ):
        init_model(name, device='cpu')


def test_a_config_file_stays_as_it_is(tiny, tmp_path, monkeypatch):
    path = str(tmp_path / 'shipped/tiny.py')
    monkeypatch.setenv('HOME', str(tmp_path))
    for config in (path, Path(path), '~/shipped/tiny.py', Config.fromfile(path)):
        assert config_and_checkpoint(config, 'weights.pth') == (config, 'weights.pth')
        assert config_and_checkpoint(config) == (config, None)


def test_each_metafile_belongs_to_its_weights():
    """For the models in the package: size and SHA-256, and the file has every tensor of the model and nothing else."""
    for name in shipped_models():
        content = (shipped.FOLDER / f'{name}.pth').read_bytes()
        (meta,) = yaml.safe_load((shipped.FOLDER / f'{name}.yml').read_text())['Models']
        assert meta['Name'] == name and meta['Metadata']['SHA256'] == hashlib.sha256(content).hexdigest()
        assert meta['Metadata']['File Size (bytes)'] == len(content) <= 5_000_000
        weights = torch.load(shipped.FOLDER / f'{name}.pth', weights_only=True)['state_dict']
        found = init_model(name, device='cpu').state_dict()
        assert found.keys() == weights.keys()
        assert all(found[key].equal(values.to(found[key].dtype)) for key, values in weights.items())


def test_the_example_image_is_that_of_the_validation_set(test_data):
    image = cv2.imread(str(example_image()), cv2.IMREAD_UNCHANGED)
    assert image.shape == (256, 256, 3) and example_image().stat().st_size < 100_000
    assert (image == cv2.imread(str(test_data / 'dsb2018/images/4a424e0cb845.png'))).all()
    assert '"file_name": "4a424e0cb845.png"' in (test_data / 'dsb2018/val.json').read_text()


def test_an_example_that_there_is_not():
    with pytest.raises(FileNotFoundError, match=r"one of \['nuclei'\], got 'cells'"):
        example_image('cells')


def run(*command, cwd, **environment) -> str:
    process = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', **environment),
    )
    assert process.returncode == 0, (process.stdout + process.stderr)[-3000:]
    return process.stdout


def test_wheel_and_source_distribution_bring_the_models(tmp_path):
    sources = tmp_path / 'sources'
    for name in BUILT_FROM:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        sources.mkdir(exist_ok=True)
        copy(REPOSITORY / name, sources / name)
    folder = sources / 'mmseg_instancenet/shipped_models'
    weights = write_stand_in(folder, tmp_path)
    (folder / 'tiny.yml').write_text('Models: []\n')
    expected = {f'mmseg_instancenet/shipped_models/{path.name}' for path in folder.iterdir() if path.is_file()}
    assert {path.rsplit('/')[-1] for path in expected} >= {
        'tiny.py', 'tiny.pth', 'tiny.yml', 'nuclei_example.png', 'README.md'
    }  # fmt: skip

    setup = (sys.executable, 'setup.py', '--quiet')
    run(*setup, 'sdist', cwd=sources)
    with tarfile.open(next((sources / 'dist').glob('*.tar.gz'))) as archive:
        names = [name.split('/', 1)[-1] for name in archive.getnames()]
        archive.extractall(tmp_path / 'unpacked', filter='data')
    assert {name for name in names if 'shipped_models/' in name} == expected

    (unpacked,) = (tmp_path / 'unpacked').iterdir()  # the wheel comes from the source distribution, as pip builds it
    run(*setup, 'bdist_wheel', cwd=unpacked)
    with zipfile.ZipFile(next((unpacked / 'dist').glob('*.whl'))) as archive:
        assert {name for name in archive.namelist() if 'shipped_models/' in name} == expected
        archive.extractall(tmp_path / 'installed')

    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    code = """
from mmseg_instancenet.apis import example_image, init_model
model = init_model('tiny', device='cpu')
print(example_image())
print(repr(model.decode_head.conv_seg.weight.double().sum().item()))
"""
    *_, image, total = run(
        sys.executable, '-c', code, cwd=elsewhere, PYTHONPATH=str(tmp_path / 'installed')
    ).splitlines()
    assert image == str(tmp_path / 'installed/mmseg_instancenet/shipped_models/nuclei_example.png')
    assert float(total) == weights['decode_head.conv_seg.weight'].half().double().sum().item()
