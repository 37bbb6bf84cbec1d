"""The configs of boundary detection against the paper."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import PolyLR
from mmseg.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


@pytest.mark.parametrize(('separation', 'weight', 'spreads'), [(1.2, 1, False), (1.6, 1, True), (0.3, 5, True)])
def test_what_keeps_the_embeddings_from_collapsing(separation, weight, spreads):
    """Around one direction the released loss falls with the spread of the embeddings where weight (2 + d^2) > 4.

    d: distance of the two groups along a feature, in its standard deviations. The config's weight makes that true of any d.
    """
    config = load('recurrent-embedding_r50_bsds500').model.decode_head.loss_embedding
    assert config.negative_weight == 5
    loss = MODELS.build(dict(config, negative_weight=weight, sample_ratio=None))
    # Quantiles of a normal distribution, of which each group has its own, moved by the separation.
    quantiles = torch.special.ndtri((torch.arange(200) + 0.5).double() / 200)
    feature = torch.cat([quantiles, quantiles[::4] + separation])
    ids = (torch.arange(250) >= 200).long().view(1, 1, -1)
    values = []
    for spread in (0.0, 0.02):
        angle = (spread * feature).view(1, 1, 1, -1)
        x_NDHW = torch.cat([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=1)
        values.append(loss(x_NDHW, ids, ids)['loss_embedding'].item())
    assert values[0] == pytest.approx(weight / 8)  # two groups in one point: 2 x 1/4 x (1 - 1/2)^2
    assert (values[1] < values[0]) == spreads


def test_poly_learning_rate():
    """(1 - t / T)^0.9 over all iterations of both phases; MMEngine's T is the last of them, which gets 0."""
    config = load('recurrent-embedding_r50_bsds500')
    settings = {key: value for key, value in config.param_scheduler.items() if key != 'type'}
    assert settings.pop('by_epoch')
    assert settings.pop('convert_to_iter_based')
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.5e-4)
    scheduler = PolyLR.build_iter_from_epoch(optimizer, end=4, epoch_length=5, **settings)
    for step in range(20):
        assert optimizer.param_groups[0]['lr'] == pytest.approx(2.5e-4 * (1 - step / 19) ** 0.9)
        optimizer.step()
        scheduler.step()


def test_logistic_only_changes_one_thing():
    base, changed = load('recurrent-embedding_r50_bsds500'), load('recurrent-embedding_r50_logistic-only_bsds500')
    assert [hook.type for hook in changed.custom_hooks] == ['LoadReportHook']
    changed.custom_hooks = base.custom_hooks
    assert changed.to_dict() == base.to_dict()


def test_fixed_batch_norm_and_what_is_trained():
    config = load('recurrent-embedding_r50_bsds500').model
    config.backbone.update(init_cfg=None, base_channels=4, stem_channels=4)
    config.decode_head.in_channels = (16, 32, 64, 128)
    model = MODELS.build(config).train()
    for name, module in model.backbone.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert not module.training, name
            assert not any(parameter.requires_grad for parameter in module.parameters()), name
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {'backbone.stem.0.weight', 'backbone.layer4.0.conv1.weight', 'decode_head.conv_seg.weight'} < trained
    # Output stride 8 from the second stage on.
    with torch.no_grad():
        sizes = [tuple(x.shape[2:]) for x in model.extract_feat(torch.zeros(1, 3, 64, 96))]
    assert sizes == [(16, 24), (8, 12), (8, 12), (8, 12)]
