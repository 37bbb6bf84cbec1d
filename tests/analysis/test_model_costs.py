"""Costs of a model: counts by hand, memory within bounds, drawn objects that every grouper finds; no times."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmseg_instancenet.analysis import model_costs
from mmseg_instancenet.analysis.model_costs import drawn_output, labelled_batch, load_model, measure_costs

CONFIGS = Path(__file__).parents[2] / 'configs'


def small(name, **settings):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    config.merge_from_dict({f'model.{key}': value for key, value in settings.items()})
    return config


@pytest.mark.parametrize('name', ['instancenet_digits', 'recurrent-embedding_digits', 'instancenet_unet_dsb2018'])
def test_costs_of_a_small_model(name):
    model = load_model(small(name), 'cpu')
    weights = sum(parameter.numel() for parameter in model.parameters())
    costs = measure_costs(model, (64, 64), train_images=2, repeats=1)
    assert costs.parameters == weights
    assert costs.num_instances == 16  # all that are drawn
    # Gradients and two moments of each weight; and the activations of a forward pass with gradients are more than without.
    assert costs.train_bytes > 3 * 4 * weights
    assert costs.train_bytes - 3 * 4 * weights > costs.predict_bytes > 3 * 64 * 64 * 4
    assert min(*costs.network, *costs.predict) > 0
    assert not model.training


def test_auxiliary_heads_are_not_counted():
    model = load_model(small('instancenet_digits_upernet-swin'), 'cpu')
    auxiliary = sum(parameter.numel() for parameter in model.auxiliary_head.parameters())
    costs = measure_costs(model, (64, 64), repeats=1)
    assert auxiliary > 0 and costs.train_bytes is None
    assert costs.parameters == sum(parameter.numel() for parameter in model.parameters()) - auxiliary


def test_boundaries():
    pytest.importorskip('timm', reason="timm is not installed: pip install -e '.[pretrained]'")
    model = load_model(small('recurrent-embedding_efficientnet-lite0_bsds500'), 'cpu')
    costs = measure_costs(model, (64, 96), train_images=1, repeats=1)
    assert costs.num_instances is None and costs.train_bytes > 0


def test_drawn_objects_are_found_where_they_are():
    model = load_model(small('recurrent-embedding_digits'), 'cpu')
    batch = labelled_batch((64, 64), 3, model.num_classes, 1)
    truth = batch['data_samples'][0]
    ids_HW, classes_HW = truth.gt_instance_map.data[0].clone(), truth.gt_sem_seg.data[0].clone()
    with torch.no_grad(), drawn_output(model, ids_HW, classes_HW):
        result = model.test_step(batch)[0]
    found_HW = result.pred_instance_map.data[0]
    assert torch.equal(result.pred_sem_seg.data[0], classes_HW)
    for number in range(1, 17):
        (label,) = found_HW[ids_HW == number].unique().tolist()  # one instance covers the object
        assert label > 0
        assert torch.equal(found_HW == label, ids_HW == number)
    assert 'scores_and_embeddings' not in vars(model)  # its own again


@pytest.mark.parametrize(
    'pipeline, size',
    [
        ([dict(type='LoadImageFromFile'), dict(type='ResizeLongerSide', length=257)], (257, 257)),
        ([dict(type='mmdet.Resize', scale=(2048, 1024), keep_ratio=True)], (1024, 2048)),
        ([dict(type='Resize', scale=(300, 200))], (200, 300)),
    ],
)
def test_size_of_a_test_pipeline(pipeline, size):
    config = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    assert model_costs.tested_size(config) == size


def test_images_that_keep_their_size():
    config = Config(dict(test_dataloader=dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))))
    with pytest.raises(ValueError, match=r'expected a test pipeline with ResizeLongerSide .* \(--shape HEIGHT WIDTH\)'):
        model_costs.tested_size(config)
