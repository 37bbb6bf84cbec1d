"""The boundary configs on EfficientNet-Lite0: their values, and a training of two phases from a file of weights."""

import copy
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'
BOTH_PHASES = 'recurrent-embedding_efficientnet-lite0_bsds500'
LOGISTIC_ONLY = 'recurrent-embedding_efficientnet-lite0_logistic-only_bsds500'


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


@pytest.fixture
def weights(tmp_path):
    """Random weights of the backbone, in a file as the converter writes it."""
    timm = pytest.importorskip('timm', reason="timm is not installed: pip install -e '.[pretrained]'")
    torch.manual_seed(0)
    torch.save(
        dict(timm.create_model('tf_efficientnet_lite0', features_only=True).state_dict()), tmp_path / 'lite0.pth'
    )
    return tmp_path / 'lite0.pth'


def test_what_is_the_papers_and_what_is_the_backbones():
    config = load(BOTH_PHASES)
    large = load('recurrent-embedding_r50_bsds500').model.decode_head
    head, backbone, preprocessor = config.model.decode_head, config.model.backbone, config.model.data_preprocessor
    assert head.embedding_dims == large.embedding_dims == 3
    assert head.loss_decode == large.loss_decode
    changed = dict(head.loss_embedding, sample_ratio=large.loss_embedding.sample_ratio)
    assert changed == large.loss_embedding
    assert (preprocessor.mean, preprocessor.std, preprocessor.bgr_to_rgb) == ([127.0] * 3, [128.0] * 3, True)
    assert (backbone.model_name, backbone.checkpoint_path) == (
        'tf_efficientnet_lite0',
        'pretrained/efficientnet-lite0.pth',
    )
    assert config.model.test_cfg.non_maximum_suppression


def test_trains_on_train_and_tests_on_val():
    config = load(BOTH_PHASES)
    assert config.train_dataloader.dataset.splits == ['train']
    assert config.val_dataloader.dataset.splits == config.test_dataloader.dataset.splits == ['val']


def test_schedule():
    """In iterations: the two phases, the learning rate, the moving average of the weights at the end."""
    config = load(BOTH_PHASES)
    last = config.train_cfg.max_iters
    hooks = {hook.type: hook for hook in config.custom_hooks}
    assert hooks['BoundaryPhaseHook'].until < last / 2 and not hooks['BoundaryPhaseHook'].by_epoch
    assert config.param_scheduler[1].T_max == config.train_cfg.val_interval == last
    assert last % config.default_hooks.checkpoint.interval == 0
    settings = {key: value for key, value in hooks['EMAHook'].items() if key not in ('type', 'ema_type')}
    average = MODELS.build(dict(type=hooks['EMAHook'].ema_type, model=torch.nn.Linear(1, 1, bias=False), **settings))
    averaged = torch.zeros(1)
    average.avg_func(averaged, torch.ones(1), last)
    assert 300 < 1 / averaged.item() < 500


def test_logistic_only_changes_one_thing():
    base, changed = load(BOTH_PHASES), load(LOGISTIC_ONLY)
    assert [hook.type for hook in base.custom_hooks] == ['BoundaryPhaseHook', *(h.type for h in changed.custom_hooks)]
    assert base.custom_hooks[1:] == changed.custom_hooks
    changed.custom_hooks = base.custom_hooks
    assert changed.to_dict() == base.to_dict()


def test_strides(weights):
    config = load(BOTH_PHASES).model
    config.backbone.checkpoint_path = str(weights)
    model = MODELS.build(config).eval()
    with torch.no_grad():
        features = model.extract_feat(torch.zeros(1, 3, 64, 96))
        output_NEhw = model.decode_head(features)
    assert [64 // x.shape[2] for x in features] == [2, 4, 8, 16, 32]
    assert output_NEhw.shape == (1, 5 * 3, 32, 48)


@pytest.mark.parametrize('name', [BOTH_PHASES, LOGISTIC_ONLY])
def test_trains_and_tests(name, weights, test_data, tmp_path):
    """Two iterations of each phase, or of the second alone, then the metric on two images."""
    config = load(name)
    config.model.backbone.checkpoint_path = str(weights)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.update(data_root=str(test_data / 'bsds500'), indices=2)
        loader.update(num_workers=0, persistent_workers=False)
    config.train_dataloader.batch_size = 2
    for step in config.train_dataloader.dataset.pipeline:
        if step.type == 'RandomScaledCropMaps':
            step.size = 96
    first = 2 if name == BOTH_PHASES else 0
    config.train_cfg.update(max_iters=first + 2, val_interval=9)
    for hook in config.custom_hooks:
        if hook.type == 'BoundaryPhaseHook':
            hook.until = first
    config.default_hooks.logger.interval = 1
    for evaluator in (config.val_evaluator, config.test_evaluator):
        # Matches at the same pixel alone: of an untrained network's noise the others take a minute.
        evaluator.update(thresholds=3, num_workers=0, max_distance=0.001)
    config.work_dir, config.experiment_name = str(tmp_path / 'run'), f'{name}_{tmp_path.name}'
    config.log_level = 'ERROR'
    runner = Runner.from_cfg(config)
    before = copy.deepcopy(runner.model.state_dict())
    written = torch.load(weights, weights_only=True)
    assert all(torch.equal(before[f'backbone.timm_model.{key}'], value) for key, value in written.items())
    runner.train()
    scalars = runner.message_hub.log_scalars
    embedding = [f'train/decode.loss_embedding_{stage}' for stage in range(5)]
    assert {key for key in scalars if 'loss_' in key} == {'train/decode.loss_logistic', *(embedding if first else [])}
    values = scalars['train/loss'].data[0]
    assert len(values) == first + 2 and all(math.isfinite(value) and value > 0 for value in values)
    for key, value in runner.model.named_parameters():
        assert torch.isfinite(value).all(), key
        assert not torch.equal(value, before[key]), key
    rates = sorted({group['lr'] for group in runner.optim_wrapper.param_groups})
    assert [rate / rates[1] for rate in rates] == pytest.approx([0.3, 1, 10], rel=0.01)
    metrics = runner.test()
    # Pooled over images, the threshold that is best for each one may give less than one threshold for all.
    assert all(0 < metrics[f'boundary/{name}'] <= 1 for name in ('ODS', 'OIS'))
