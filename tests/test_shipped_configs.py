"""The package's configs by name."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.utils import is_installed
from mmseg_configs import needs_mmsegs_configs
from zoo import ZOO

from mmseg_instancenet import shipped_configs
from mmseg_instancenet.shipped_configs import config_folder

CONFIGS = Path(__file__).parents[1] / 'configs'


def test_a_config_in_another_folder_builds_on_ours(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = ['mmseg_instancenet::_base_/datasets/coco_instance_maps.py', 'mmseg_instancenet::_base_/default_runtime.py']\n"
        'train_dataloader = dict(batch_size=2)\n'
    )
    mine = Config.fromfile(path)
    data, runtime = (
        Config.fromfile(CONFIGS / f'_base_/{name}.py') for name in ('datasets/coco_instance_maps', 'default_runtime')
    )
    assert mine.train_dataloader == dict(data.train_dataloader, batch_size=2)
    assert mine.default_hooks == runtime.default_hooks and mine.val_evaluator == data.val_evaluator
    assert '_scope_' not in mine.train_dataloader


def test_a_whole_config_by_name(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'mmseg_instancenet::instancenet_digits.py'\n")
    assert Config.fromfile(path).model == Config.fromfile(CONFIGS / 'instancenet_digits.py').model
    assert config_folder() == CONFIGS


def test_a_name_that_there_is_not_and_other_bases(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'mmseg_instancenet::_base_/datasets/cocoo.py'\n")
    with pytest.raises(
        FileNotFoundError, match=r"no config '_base_/datasets/cocoo.py'; it has bsds500.py, coco_inst.*, digits"
    ):
        Config.fromfile(path)
    (tmp_path / 'base.py').write_text('a = 1\n')
    path.write_text("_base_ = 'base.py'\n")
    assert Config.fromfile(path).a == 1


@needs_mmsegs_configs
@pytest.mark.parametrize(
    'name',
    [
        '_base_/models/fcn_r50-d8.py',
        'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        '_base_/datasets/ade20k.py',
    ],
)
@pytest.mark.parametrize('installed', [True, False])
def test_mmsegs_configs_where_its_distribution_has_another_name(monkeypatch, installed, name):
    """MMEngine looks for the distribution 'mmsegmentation'; the onedl fork's has another name."""
    if installed and not is_installed('mmsegmentation'):
        pytest.skip('the installed mmseg is the onedl fork')
    monkeypatch.setattr(shipped_configs, 'is_installed', lambda _: installed)
    path, scope = Config._get_cfg_path(f'mmseg::{name}', 'a.py')
    assert (Path(path), scope) == (ZOO / name, 'mmseg')
