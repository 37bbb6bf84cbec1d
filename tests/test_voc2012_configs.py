"""The configs of semantic instances and proposals against the paper; they train and predict."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmseg.registry import DATASETS, MODELS

from mmseg_instancenet.datasets.voc import convert, find_sbd, find_voc

CONFIGS = Path(__file__).parents[1] / 'configs'
BASE = 'recurrent-embedding_r50_voc2012'


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


def test_no_batch_norm_is_trained():
    """Batches of one have no moments: the backbone's are fixed, the head has none."""
    model = MODELS.build(load(BASE).model).train()
    norms = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}
    assert norms and all(name.startswith('backbone') and not norm.training for name, norm in norms.items())
    assert not any(parameter.requires_grad for norm in norms.values() for parameter in norm.parameters())


@pytest.mark.parametrize(
    ('name', 'parent'),
    [
        ('recurrent-embedding_r50_proposals_voc2012', BASE),
        ('recurrent-embedding_proposals_digits', 'recurrent-embedding_digits'),
    ],
)
def test_proposals_take_the_parents_checkpoint(name, parent):
    config, parent_config = load(name), load(parent)
    # The same training, whatever the groupers of the proposals.
    grouping = config.model.decode_head.loss_embedding.pop('grouping', config.model.grouper)
    assert grouping == parent_config.model.grouper
    assert config.model.decode_head == parent_config.model.decode_head
    config = load(name)
    assert config.train_dataloader == parent_config.train_dataloader
    model, parent_model = MODELS.build(config.model), MODELS.build(parent_config.model)
    model.load_state_dict(parent_model.state_dict(), strict=True)
    concentrations = [g.kernel_settings.concentration for g in (model.grouper, *model.more_groupers)]
    assert concentrations[0] == 100 and len(set(concentrations)) > 2
    assert [metric.type for metric in config.val_evaluator] == ['ProposalRecallMetric']
    assert config.default_hooks.checkpoint.rule == 'greater'


@pytest.fixture(scope='module')
def voc_samples(test_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('voc')
    samples = test_data / 'voc_samples'
    images = [*find_voc(samples / 'voc_layout').values(), *find_sbd(samples / 'sbd_mat').values()]
    for name in ('train_aug.json', 'val.json'):
        (folder / name).write_text(json.dumps(convert(images, folder)[0]))
    return str(folder)


@pytest.mark.parametrize('name', [BASE, 'recurrent-embedding_r50_proposals_voc2012'])
def test_trains_and_predicts_on_voc(voc_samples, name):
    """Three iterations on real images at an eighth of their size, the network as it is, from random weights."""
    torch.manual_seed(0)
    config = load(name)
    config.merge_from_dict(
        {
            'model.backbone.init_cfg': None,
            'model.backbone.norm_cfg.requires_grad': True,
            'model.test_cfg.classes': 'ground_truth',
            'train_dataloader.dataset.data_root': voc_samples,
            'test_dataloader.dataset.data_root': voc_samples,
            'train_dataloader.dataset.pipeline.2.scale': (65, 65),
        }
    )
    config.test_dataloader.dataset.pipeline.insert(1, dict(type='mmdet.Resize', scale=(65, 65), keep_ratio=True))
    model = MODELS.build(config.model)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    training = DATASETS.build(config.train_dataloader.dataset)
    weight = model.decode_head.conv_embedding.weight
    before = weight.detach().clone()
    model.train()
    for index in range(3):
        log = model.train_step(pseudo_collate([training[index]]), optimizer)
        assert all(torch.isfinite(value).all() for value in log.values()), log
        assert {'decode.loss_ce', 'decode.loss_embedding', 'decode.negative_0', 'decode.positive_5'} <= set(log)
    assert not torch.equal(weight, before)
    data = DATASETS.build(config.test_dataloader.dataset)[0]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the kernel's reach: a background of thousands of pixels
        result = model.eval().test_step(pseudo_collate([data]))[0]
    size = data['data_samples'].ori_shape[:2]
    assert tuple(result.pred_instance_map.data.shape[1:]) == size
    assert all(mask['size'] == list(size) for mask in result.pred_instances.masks)
    assert torch.isfinite(result.pred_instances.scores).all()
