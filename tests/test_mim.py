"""MIM finds configs, tools and the model index of an installed package, from any folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from mmseg_instancenet.datasets.digits import write_digits

REPOSITORY = Path(__file__).parents[1]
BUILT_FROM = (
    *('mmseg_instancenet', 'configs', 'tools', 'model-index.yml'),
    *('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'),
)


def run(*command, cwd):
    environment = dict(os.environ, OMP_NUM_THREADS='2', OMP_WAIT_POLICY='PASSIVE', PYTHONWARNINGS='ignore')
    environment.pop('PYTHONPATH', None)  # the installed package is the one to look at
    process = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )
    output = process.stdout + process.stderr
    assert process.returncode == 0, output[-3000:]
    return output


def copy_sources(folder: Path) -> Path:
    """Copies the checkout without files of builds and trainings."""
    for name in BUILT_FROM:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(REPOSITORY / name, folder)
    return folder


@pytest.fixture(scope='module', params=['wheel', 'editable'])
def installed(request, tmp_path_factory):
    """The Python of an environment that holds this package and, through a path, everything of the one that runs the tests."""
    pytest.importorskip('mim', reason='MIM is not installed; requirements/tests.txt leaves it out for Python 3.14')
    folder = tmp_path_factory.mktemp(request.param)
    run(sys.executable, '-m', 'venv', '--without-pip', folder / 'venv', cwd=folder)
    python = folder / 'venv/bin/python'
    site_packages = run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=folder).strip()
    # addsitedir reads the .pth files there too: setuptools brings distutils to Python 3.12 by one.
    Path(site_packages, 'others.pth').write_text(f'import site; site.addsitedir({sysconfig.get_path("purelib")!r})\n')
    (folder / 'sources').mkdir()
    sources = copy_sources(folder / 'sources')
    options = ['--no-deps', '--no-build-isolation', '--quiet', '--ignore-installed']
    pip = [python, '-m', 'pip', '--disable-pip-version-check']
    if request.param == 'wheel':
        run(*pip, 'wheel', '--no-deps', '--no-build-isolation', '--quiet', '-w', folder / 'wheels', sources, cwd=folder)
        run(*pip, 'install', *options, *(folder / 'wheels').glob('*.whl'), cwd=folder)
        shutil.rmtree(sources)  # nothing of it is needed any more
    else:
        run(*pip, 'install', *options, '-e', sources, cwd=folder)
    (folder / 'elsewhere').mkdir()
    return request.param, folder, python


def test_the_wheel_brings_what_mim_reads(installed):
    kind, folder, python = installed
    location = run(
        python, '-c', 'from importlib.util import find_spec; print(find_spec("mmseg_instancenet").origin)', cwd=folder
    ).strip()
    package = Path(location).parent
    if kind == 'editable':  # MIM reads the checkout, and would find a config twice if the package held it too
        assert package == folder / 'sources/mmseg_instancenet' and not (package / '.mim').exists()
        return
    assert folder / 'venv' in package.parents
    assert (package / 'py.typed').exists()
    (license_file,) = package.parent.glob('mmseg_instancenet-*.dist-info/licenses/LICENSE')
    assert license_file.read_text() == (REPOSITORY / 'LICENSE').read_text()
    expected = {
        path.relative_to(REPOSITORY)
        for part in ('configs', 'tools')
        for path in (REPOSITORY / part).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    } | {Path('model-index.yml')}
    assert {
        path.relative_to(package / '.mim')
        for path in (package / '.mim').rglob('*')
        if path.is_file() and path.suffix != '.pyc'
    } == expected


def test_names_of_configs_are_unique():
    names = [path.name for path in (REPOSITORY / 'configs').rglob('*.py')]
    assert len(set(names)) == len(names) > 20


def test_mim_searches_the_model_index(installed):
    _, folder, python = installed
    out = folder / 'elsewhere/models.json'
    run(python, '-m', 'mim', 'search', 'mmseg_instancenet', '--dataset', 'digits', '--json', out, cwd=out.parent)
    found = {}  # JSON of a table: columns of rows
    for column, values in json.loads(out.read_text()).items():
        for model, value in values.items():
            found.setdefault(model, {})[column] = value
    assert {'instancenet_digits', 'recurrent-embedding_digits'} <= set(found)
    assert found['instancenet_digits']['config'] == 'configs/instancenet_digits.py'
    assert not any('coco' in name for name in found)


def test_mim_trains_and_tests_from_any_folder(installed):
    kind, folder, python = installed
    elsewhere = folder / 'elsewhere'
    write_digits(elsewhere / 'digits', num_train=32, num_val=4)
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'param_scheduler.0.end=2']
    options += [f'{part}_dataloader.dataset.data_root={elsewhere}/digits' for part in ('train', 'val', 'test')]
    mim = [python, '-m', 'mim']
    # The work dir lies outside the checkout: MMEngine copies the config there, where MIM would find it a second time.
    trained = run(
        *mim, 'train', 'mmseg_instancenet', 'instancenet_digits.py', '--work-dir', 'run', *options, cwd=elsewhere
    )
    assert 'Training finished successfully' in trained and 'coco/segm_mAP' in trained
    root = folder / 'sources' if kind == 'editable' else folder / 'venv'
    assert str(root) in next(line for line in trained.splitlines() if line.startswith('Training command is'))
    if kind == 'editable':
        return  # mim test finds the files as mim train does
    tested = run(
        *mim, 'test', 'mmseg_instancenet', 'instancenet_digits.py', '--checkpoint', 'run/epoch_1.pth',
        '--work-dir', 'test', *options, cwd=elsewhere,
    )  # fmt: skip
    assert 'Testing finished successfully' in tested and 'coco/segm_mAP' in tested
