"""Every config loads, builds, and says what its name says."""

import ast
from pathlib import Path

import pytest
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg_configs import REASON, builds_on_mmsegs
from zoo import ZOO

from mmseg_instancenet.apis.analysis_run import images_of

CONFIGS = sorted((Path(__file__).parents[1] / 'configs').glob('*.py'))
BASE = 'instancenet_r50_coco'


def load(name: str) -> Config:
    return Config.fromfile(Path(__file__).parents[1] / 'configs' / f'{name}.py')


_NUM_CLASSES: dict[str, int] = {}


def _num_classes(model: dict) -> int:
    """Number of classes of the model of a config; ablations of data and training share one model, which is built once."""
    text = repr(model)
    if text not in _NUM_CLASSES:
        _NUM_CLASSES[text] = MODELS.build(model).num_classes
    return _NUM_CLASSES[text]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_builds(path):
    if builds_on_mmsegs(path) and not ZOO.is_dir():
        pytest.skip(REASON)
    config = Config.fromfile(path)
    if config.model.backbone.type == 'TIMMBackbone':
        pytest.importorskip('timm', reason="timm is not installed: pip install -e '.[pretrained]'")
        config.model.backbone.checkpoint_path = ''  # a file that tools/convert/ writes
    num_classes = _num_classes(config.model)
    known = {
        'CocoInstanceDataset': 81,
        'DigitsDataset': 11,
        'VOCInstanceDataset': 21,
        'BSDSDataset': 2,
        'CityscapesDataset': 19,
    }
    dataset = images_of(config.train_dataloader.dataset)
    classes = dataset.get('metainfo', {}).get('classes')
    assert num_classes == (len(classes) + 1 if classes else known[dataset.type])
    assert config.val_dataloader == config.test_dataloader
    assert config.custom_imports == dict(imports=['mmseg_instancenet'], allow_failed_imports=False)


@pytest.mark.parametrize('path', [path for path in CONFIGS if path.stem not in (BASE, 'instancenet_digits')], ids=str)
def test_leaf_files_inherit(path):
    tree = ast.parse(path.read_text())
    names = [target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    assert '_base_' in names
    assert path.read_text().lstrip().startswith('#')


def model_uses_our_options(config: Config) -> bool:
    head, grouper = config.model.decode_head, config.model.grouper
    return bool(
        head.get('coordinates') or head.loss_embedding.get('push_distance') is not None or grouper.get('connected')
    )


@pytest.mark.parametrize('name', ['instancenet_r50_dsb2018', 'instancenet_unet_dsb2018'])
def test_nuclei_are_counted(name):
    config = load(name)
    types = [metric.type for metric in config.val_evaluator]
    assert types == ['CocoInstanceMetric', 'CountingMetric', 'ForegroundIoUMetric']
    assert config.test_evaluator == config.val_evaluator
