"""Groupers without a class map, or with a mask instead."""

import pytest
import torch

from mmseg_instancenet.models import CenterGrouping, ClassGrouping, MeanShiftGrouping, SeedGrouping

GROUPERS = [CenterGrouping, ClassGrouping, MeanShiftGrouping, SeedGrouping]


def clusters(seed: int = 0) -> torch.Tensor:
    """Three clusters at random over a map, the last two values bandwidth and seed: (5, 8, 9)."""
    generator = torch.Generator().manual_seed(seed)
    center_KD = 4 * torch.eye(3)
    x_hwD = center_KD[torch.randint(3, (8, 9), generator=generator)]
    x_hwD = x_hwD + 0.1 * torch.randn(x_hwD.shape, generator=generator)
    return torch.cat([x_hwD, torch.rand(8, 9, 2, generator=generator)], dim=2).movedim(2, 0)


@pytest.mark.parametrize('settings', [{}, {'connected': True, 'min_size': 2}, {'background_groups': True}], ids=str)
@pytest.mark.parametrize('grouper', GROUPERS)
def test_every_pixel_is_grouped(grouper, settings):
    grouping, embeddings = grouper(class_agnostic=True, **settings), clusters()
    labels = grouping(embeddings)
    assert torch.equal(labels, grouping(embeddings, torch.ones(8, 9, dtype=torch.long)))
    if not grouping.connected:
        assert labels.min() == 1


def test_groups_are_the_clusters():
    embeddings = clusters()
    labels = CenterGrouping(class_agnostic=True, threshold=2)(embeddings)
    nearest = embeddings[:3].argmax(0)
    pairs = {*zip(labels.flatten().tolist(), nearest.flatten().tolist(), strict=True)}
    assert len(pairs) == len({group for group, _ in pairs}) == len({cluster for _, cluster in pairs}) == 3


@pytest.mark.parametrize('class_agnostic', [False, True])
@pytest.mark.parametrize('grouper', GROUPERS)
def test_a_mask_is_a_class_map_of_one_class(grouper, class_agnostic):
    grouping, embeddings = grouper(class_agnostic=class_agnostic), clusters()
    mask = torch.rand(8, 9, generator=torch.Generator().manual_seed(1)) < 0.6
    labels = grouping(embeddings, mask)
    assert torch.equal(labels > 0, mask)
    assert torch.equal(labels, grouping(embeddings, mask.long()))


@pytest.mark.parametrize('grouper', GROUPERS)
def test_class_by_class_a_class_map_is_needed(grouper):
    message = rf'{grouper.__name__} groups class by class: .* got None. .* class_agnostic=True to group all pixels'
    with pytest.raises(TypeError, match=message):
        grouper()(clusters())
    with pytest.raises(TypeError, match='expected embeddings as a torch.Tensor, got ndarray; torch.from_numpy'):
        grouper(class_agnostic=True)(clusters().numpy())
