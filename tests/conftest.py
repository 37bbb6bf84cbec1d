"""What every test needs: the package's registry entries, mmseg's scope, and the folder of real images."""

import gc
import os
from pathlib import Path

import pytest
import torch
from devices import DEVICES
from mmengine.registry import init_default_scope

import mmseg_instancenet  # noqa: F401  (registers its components)


def pytest_collection_finish() -> None:
    """Exempts the imported modules from garbage collection, of which MMEngine does one, .4 s long, for each data loader."""
    gc.freeze()


@pytest.fixture(autouse=True, scope='session')
def unformatted_configs():
    """MMEngine writes configs without yapf's layout, which takes .2 s, six times in each run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.config.config.FormatCode', lambda text, **style: (text, True))
        yield


@pytest.fixture(autouse=True)
def mmseg_scope() -> None:
    """Names of the registry are looked up in mmseg first, as in a run of ``tools/train.py``."""
    init_default_scope('mmseg')


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch) -> str:
    """The device of a test: the CPU, and the GPU as well if there is one; without a GPU nothing is skipped.

    Inputs are drawn on the CPU and moved, so that they are the same everywhere; what to expect is computed on the CPU.
    """
    if request.param == 'cuda':
        # A GPU's convolutions would round float32 to ten bits unless told not to.
        monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    return request.param


@pytest.fixture(scope='session')
def test_data() -> Path:
    """Folder of the real data sets, which are no part of the repository; without it the test is skipped."""
    default = Path(__file__).resolve().parents[2] / 'shared' / 'data'
    folder = Path(os.environ.get('INSTANCENET_TEST_DATA', default))
    if not folder.is_dir():
        pytest.skip(
            f'no real data at {folder}: set INSTANCENET_TEST_DATA to the folder that holds coco_mini, dsb2018, ..'
        )
    return folder
