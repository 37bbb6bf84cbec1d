"""Losses on embeddings without a class map: all instances are of one class."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_instancenet.models.losses import discriminative_terms, number_instances, spherical_pair_terms

AGNOSTIC = dict(class_agnostic=True)
GROUPING = dict(type='MeanShiftGrouping', concentration=30.0, **AGNOSTIC)
LOSSES = {
    'discriminative': dict(type='DiscriminativeLoss', **AGNOSTIC),
    'discriminative with background': dict(type='DiscriminativeLoss', background_is_instance=True, **AGNOSTIC),
    'discriminative of near pairs': dict(type='DiscriminativeLoss', push_distance=2.0, **AGNOSTIC),
    'spherical': dict(type='SphericalPairLoss', variant='released'),
    'spherical of a sample': dict(type='SphericalPairLoss', background_is_instance=False, sample_ratio=0.5),
    'soft mask': dict(type='SoftMaskLoss'),
    'recurrent': dict(type='RecurrentLoss', loss=dict(type='SphericalPairLoss'), grouping=GROUPING, max_pixels=20),
    'recurrent foreground': dict(
        type='RecurrentLoss', loss=dict(type='SphericalPairLoss'), grouping=GROUPING, foreground_only=True
    ),
}


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 4, 6, 7, generator=generator)
    return embeddings, torch.tensor([-1, 0, 1, 2, 9])[torch.randint(5, (2, 6, 7), generator=generator)]


@pytest.mark.parametrize('config', LOSSES.values(), ids=LOSSES)
def test_is_the_loss_with_a_class_map_of_one_class_to_the_last_digit(config):
    embeddings, ids = batch()
    found = []
    for maps in ((ids,), (ids, (ids > 0).long())):
        x = embeddings.clone().requires_grad_()
        torch.manual_seed(0)  # of the samples
        losses = MODELS.build(config)(x, *maps)
        losses['loss_embedding'].backward()
        found.append([*losses.values(), x.grad])
    assert found[0][0] > 0
    for without, with_map in zip(*found, strict=True):
        assert torch.equal(without, with_map)


def test_value_by_hand():
    embeddings = torch.tensor([[[[0.0, 0.0, 2.0, 9.0, 9.0]]]])
    ids = torch.tensor([[[3, 3, 8, 0, -1]]])
    terms = discriminative_terms(embeddings, ids, class_agnostic=True)
    assert [term.item() for term in terms] == [0, 2 * 3 - 2, (0 + 2) / 2]
    instances = number_instances(ids, class_agnostic=True, background_is_instance=True)
    assert instances.size_K.tolist() == [1, 2, 1]  # background, 3, 8


@pytest.mark.parametrize(
    'config',
    [
        dict(type='DiscriminativeLoss'),
        dict(type='SphericalPairLoss', class_agnostic=False, background_is_instance=False),
        dict(type='RecurrentLoss', loss=dict(type='SphericalPairLoss'), grouping={**GROUPING, 'class_agnostic': False}),
        dict(type='RecurrentLoss', loss=dict(type='DiscriminativeLoss'), grouping=GROUPING),
    ],
    ids=['discriminative', 'spherical', 'grouping of recurrent', 'loss of recurrent'],
)
def test_a_loss_with_classes_needs_a_class_map(config):
    with pytest.raises(TypeError, match=r'expected a class map \(N, H, W\) .* got None: .* class_agnostic=True'):
        MODELS.build(config)(*batch())


@pytest.mark.parametrize('config', LOSSES.values(), ids=LOSSES)
def test_as_loss_decode_of_a_head_it_raises_an_error_with_the_right_place(config):
    head = MODELS.build(dict(type='FCNHead', in_channels=3, channels=4, num_convs=1, num_classes=3, loss_decode=config))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 6, 7, dtype=torch.long)))] * 2
    message = (
        rf'{config["type"]} is a loss on embeddings and was called .* loss_embedding of a head .* not into loss_decode'
    )
    with pytest.raises(TypeError, match=message):
        head.loss_by_feat(torch.zeros(2, 3, 6, 7), samples)


def test_maps_as_mmseg_stacks_them():
    embeddings, ids = batch()
    with pytest.raises(ValueError, match=r'instance map \(2, 6, 7\) .* got \(2, 1, 6, 7\); .* map.squeeze\(1\)'):
        spherical_pair_terms(embeddings, ids[:, None], margin=0.5)
