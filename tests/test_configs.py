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
    """Of the model that a config builds; ablations of data and training share one model, which is built once."""
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


def test_the_papers_recipe():
    """The values of Gao 2020, section Training details, against what the runner would use."""
    config = load(BASE)
    loss = config.model.decode_head.loss_embedding
    assert (loss.alpha, loss.beta, loss.gamma, loss.pull_margin, loss.push_margin) == (1, 1, 0.001, 0.2, 3)
    assert config.model.decode_head.embedding_dims == 4
    assert (config.model.grouper.mode, config.model.grouper.threshold) == ('shift', 1.2)
    assert config.model.backbone.norm_cfg.momentum == pytest.approx(1 - 0.99)
    assert config.train_cfg.max_epochs == 80 + 60
    freeze = next(hook for hook in config.custom_hooks if hook.type == 'FreezeHook')
    assert (freeze.modules, freeze.until) == ('backbone', 80)
    assert config.optim_wrapper.optimizer == dict(type='Adam', lr=0.001)
    assert config.param_scheduler.milestones == [80]
    assert config.optim_wrapper.optimizer.lr * config.param_scheduler.gamma == pytest.approx(0.0001)
    assert config.train_dataloader.batch_size == 4
    pipeline = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    assert pipeline['ResizeLongerSide'].length == 513
    assert pipeline['mmdet.RandomFlip'].prob == 0.5
    assert not model_uses_our_options(config)


def model_uses_our_options(config: Config) -> bool:
    head, grouper = config.model.decode_head, config.model.grouper
    return bool(
        head.get('coordinates') or head.loss_embedding.get('push_distance') is not None or grouper.get('connected')
    )


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('instancenet_r50_center-fixed_coco', {'grouper.mode': 'fixed'}),
        ('instancenet_r50_gt-classes_coco', {'test_cfg.classes': 'ground_truth'}),
        ('instancenet_r50_threshold-1.0_coco', {'grouper.threshold': 1.0, 'test_cfg.classes': 'ground_truth'}),
        ('instancenet_r50_8d_coco', {'decode_head.embedding_dims': 8}),
        ('instancenet_r50_l1_coco', {'decode_head.loss_embedding.norm': 1, 'grouper.norm': 1}),
        ('instancenet_r50_coordinates_coco', {'decode_head.coordinates': True}),
        (
            'instancenet_r50_local-push_coco',
            {'decode_head.loss_embedding.push_distance': 32, 'grouper.connected': True},
        ),
        ('instancenet_r101_coco', {'backbone.depth': 101}),
    ],
)
def test_an_ablation_changes_one_thing(name, changes):
    base, changed = load(BASE), load(name)
    base.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    assert changed.model == base.model
    for key in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert changed[key] == base[key]


@pytest.mark.parametrize('name', ['instancenet_r50_dsb2018', 'instancenet_unet_dsb2018'])
def test_nuclei_are_counted(name):
    config = load(name)
    types = [metric.type for metric in config.val_evaluator]
    assert types == ['CocoInstanceMetric', 'CountingMetric', 'ForegroundIoUMetric']
    assert config.test_evaluator == config.val_evaluator
