"""The error that names a missing package and its remedy."""

from importlib import metadata

import pytest

from mmseg_instancenet import requirements_check
from mmseg_instancenet.requirements_check import check_requirements

INSTALLED = {
    'torch': '2.5.1+cu121',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2',
    'scikit-image': '0.26.0',
    'ftfy': '6.3.1',
    'regex': '2024.11.6',
}
ONEDL = {
    'torch': '2.9.0',
    'onedl-mmengine': '0.11.0',
    'onedl-mmcv': '2.3.0',
    'onedl-mmdetection': '3.4.0rc1',
    'onedl-mmsegmentation': '1.3.0.post1',
    'scikit-image': '0.24.0',
    'ftfy': '6',
    'regex': '2024.11.6',
}


@pytest.fixture
def install(monkeypatch):
    """Replaces the installed distributions for the check."""

    def install(distributions):
        def version(name):
            if name not in distributions:
                raise metadata.PackageNotFoundError(name)
            return distributions[name]

        monkeypatch.setattr(requirements_check.metadata, 'version', version)

    return install


def without(*names):
    return {name: version for name, version in INSTALLED.items() if name not in names}


@pytest.mark.parametrize('distributions', [INSTALLED, ONEDL])
def test_a_complete_installation_passes(install, distributions):
    install(distributions)
    check_requirements()


def test_this_installation_passes():
    check_requirements()


@pytest.mark.parametrize(
    'distribution, message',
    [
        ('torch', r'needs torch 2\.4 or newer, which is not installed: pip install "torch>=2\.4"'),
        ('mmengine', r'needs mmengine 0\.10 or newer, which is not installed: pip install "mmengine>=0\.10\.0"'),
        ('mmcv', r'needs mmcv 2\.0 or newer, which is not installed: pip install "mmcv-lite>=2\.0\.0,<2\.2\.0"'),
        ('mmdet', r'needs mmdet 3\.1 or newer, which is not installed: pip install "mmdet>=3\.1\.0"'),
        ('mmsegmentation', r'needs mmseg 1\.1 or newer, which is not installed: pip install "mmsegmentation>=1\.1\.0"'),
        ('scikit-image', r'needs scikit-image 0\.24 or newer.*not installed: pip install "scikit-image>=0\.24"'),
        ('ftfy', 'needs ftfy .*not installed: pip install ftfy$'),
        ('regex', 'needs regex .*not installed: pip install regex$'),
    ],
)
def test_missing(install, distribution, message):
    install(without(distribution))
    with pytest.raises(ImportError, match=f'^mmseg_instancenet {message}'):
        check_requirements()


@pytest.mark.parametrize(
    'distribution, version, message',
    [
        ('torch', '2.3.1', r'torch 2\.4 or newer, found 2\.3\.1: pip install "torch>=2\.4"'),
        ('torch', '1.13.1+cu117', r'torch 2\.4 or newer, found 1\.13\.1\+cu117'),
        ('torch', '2', r'torch 2\.4 or newer, found 2: '),
        ('mmengine', '0.9.1', r'mmengine 0\.10 or newer, found 0\.9\.1: pip install "mmengine'),
        ('mmcv', '1.7.2', r'mmcv 2\.0 or newer, found 1\.7\.2: pip install "mmcv-lite'),
        ('mmdet', '3.0.0', r'mmdet 3\.1 or newer, found 3\.0\.0: pip install "mmdet'),
        ('mmdet', '3.0.0rc6', r'mmdet 3\.1 or newer, found 3\.0\.0rc6'),
        ('mmsegmentation', '1.0.0', r'mmseg 1\.1 or newer, found 1\.0\.0: pip install "mmsegmentation'),
    ],
)
def test_too_old(install, distribution, version, message):
    install({**INSTALLED, distribution: version})
    with pytest.raises(ImportError, match=f'^mmseg_instancenet needs {message}'):
        check_requirements()


@pytest.mark.parametrize(
    'distribution, version',
    [
        ('torch', '2.4.0a0+git1'),
        ('torch', '2.10.0'),
        ('torch', '3.0'),
        ('mmengine', '0.10.0'),
        ('mmdet', '3.10'),
        ('mmcv', '2.0.0rc4'),
    ],
)
def test_new_enough(install, distribution, version):
    install({**INSTALLED, distribution: version})
    check_requirements()


def test_mmcv_without_compiled_operators_serves(install):
    install({**without('mmcv'), 'mmcv-lite': '2.1.0'})
    check_requirements()
    install({**without('mmcv'), 'mmcv-lite': '1.7.0'})
    with pytest.raises(ImportError, match=r'needs mmcv 2\.0 or newer, found 1\.7\.0: pip install "mmcv-lite>=2'):
        check_requirements()


def test_an_old_fork_is_named_by_its_import(install):
    install({**ONEDL, 'onedl-mmdetection': '2.0'})
    with pytest.raises(ImportError, match=r'needs mmdet 3\.1 or newer, found 2\.0'):
        check_requirements()


def test_the_first_in_order_is_named(install):
    install({})
    with pytest.raises(ImportError, match='needs torch'):
        check_requirements()


def test_opencv_without_the_libraries_of_a_desktop(install, monkeypatch):
    def import_module(name):
        raise ImportError(f'libGL.so.1: cannot open shared object file, for {name}')

    install(INSTALLED)
    monkeypatch.setattr(requirements_check.importlib, 'import_module', import_module)
    with pytest.raises(ImportError) as error:
        check_requirements()
    assert str(error.value).startswith('mmseg_instancenet needs OpenCV, which does not load (libGL.so.1: cannot open')
    assert str(error.value).endswith("pip uninstall -y opencv-python && pip install 'opencv-python-headless<5'")
