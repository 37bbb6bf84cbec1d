import numpy as np
import pytest
import torch

from mmseg_instancenet.models import SeedScorer, SilhouetteScorer
from mmseg_instancenet.structures import group_statistics


@pytest.mark.parametrize('dims', [3, 4])
def test_equals_the_formula(dims, device):
    rng = np.random.default_rng(dims)
    labels = rng.integers(0, 6, (9, 8))
    labels[0, :6] = range(6)
    embeddings = rng.normal(size=(dims, 9, 8)) * 3
    expected = [np.mean([1 / (1 + np.exp(-z)) for z in embeddings[-1][labels == k]]) for k in range(1, 6)]
    x_Dhw, labels_hw = torch.from_numpy(embeddings).float().to(device), torch.from_numpy(labels).to(device)
    statistics = group_statistics(x_Dhw[:-2], labels_hw, labels_hw)
    scores = SeedScorer()(x_Dhw, labels_hw, statistics)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores.cpu().numpy(), expected, atol=1e-6)


def test_logits_beyond_what_exp_can_hold():
    x_Dhw = torch.tensor([0.0, 0.0, 1000.0, 1000.0, -1000.0, 1000.0]).view(3, 1, 2)
    labels = torch.tensor([[1, 2]])
    assert SeedScorer()(x_Dhw, labels, group_statistics(x_Dhw[:1], labels, labels)).tolist() == [0, 1]


def test_no_group():
    empty, x_Dhw = torch.zeros(2, 2, dtype=torch.long), torch.randn(3, 2, 2)
    assert SeedScorer()(x_Dhw, empty, group_statistics(x_Dhw[:1], empty, empty)).tolist() == []


def test_a_silhouette_uses_the_compared_values_only():
    """With bandwidths and seeds that differ within a group it is that of the same embeddings without them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(4).view(2, 6)
    x_Dhw = torch.randn(4, 2, 6, generator=generator)
    x_Dhw[:2] = x_Dhw[:2] * 0.2 + labels * 2
    statistics = group_statistics(x_Dhw[:2], labels, torch.ones_like(labels))
    expected = SilhouetteScorer()(x_Dhw[:2], labels, statistics)
    assert expected.min() > 0.1
    assert torch.equal(SilhouetteScorer()(x_Dhw, labels, statistics), expected)
