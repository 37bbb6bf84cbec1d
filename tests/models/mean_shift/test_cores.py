"""Cores: which clusters are merged before the first iteration, and how far that may change what they attract."""

import math

import pytest
import torch
import torch.nn.functional as F
from references.dense_mean_shift import clusters, dense_loops

from mmseg_instancenet.models.mean_shift.cores import merge_cores
from mmseg_instancenet.models.mean_shift.iteration import KernelSettings

SETTINGS = KernelSettings(100.0)
BANDWIDTH = 0.1


def noisy(centers, counts, noise=0.2, seed=0):
    """Embeddings around centres, with noise of so many bandwidths, and the number of the centre of each."""
    group = torch.repeat_interleave(torch.arange(len(centers)), torch.tensor(counts))
    generator = torch.Generator().manual_seed(seed)
    scale = noise * BANDWIDTH / centers.shape[1] ** 0.5
    return centers[group] + scale * torch.randn(len(group), centers.shape[1], generator=generator), group


@pytest.mark.parametrize('kernel', ['cosine', 'norm'])
@pytest.mark.parametrize(('dims', 'noise'), [(3, 0.1), (16, 1.0), (64, 1.2), (64, 0.0)])
def test_clusters_apart_are_one_embedding_each(dims, noise, kernel, device):
    x, group = noisy(torch.eye(dims)[:3], [600, 300, 100], noise)
    if kernel == 'cosine':
        x = F.normalize(x, dim=1)
    mean, mass, merged = (y.cpu() for y in merge_cores(x.to(device), KernelSettings(100.0, kernel)))
    for k, count in enumerate((600, 300, 100)):
        heaviest = merged[group == k].mode().values
        inside = merged == heaviest
        assert (group[inside] == k).all() and int(inside.sum()) > 0.85 * count
        assert float(mass[heaviest]) == int(inside.sum())
        assert (mean[heaviest] - x[inside].double().mean(0)).abs().max() < 1e-5
    # The others stay as they are.
    single = mass[merged] == 1
    assert torch.allclose(mean[merged[single]], x[single], atol=1e-6)
    assert int(mass.sum()) == 1000 and len(mass) == int(merged.max()) + 1


def test_no_core_where_it_is_open_which_cluster_an_embedding_joins():
    far, near, unequal = (
        merge_cores(noisy(gap * BANDWIDTH * torch.eye(2), counts)[0], KernelSettings(100.0, 'norm'))[1]
        for gap, counts in ((6.0, [500, 500]), (3.0, [500, 500]), (3.0, [950, 50]))
    )  # 6 and 3 along both axes: 8.5 and 4.2 bandwidths apart
    assert (far > 100).sum() == 2 and (near > 1).sum() == 0
    assert (unequal > 1).sum() == 1 and float(unequal.max()) > 500


@pytest.mark.parametrize(
    'x',
    [
        torch.linspace(0, 3, 2000)[:, None] * torch.tensor([[1.0, 0.5]]),
        torch.randn(900, 32, generator=torch.Generator().manual_seed(0)),
        torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) * 2,
        torch.tensor([[1.0, 2.0]]),
        torch.eye(4)[:3],
    ],
    ids=['line', 'scattered', 'uniform', 'one', 'three'],
)
def test_without_clusters_nothing_is_merged(x):
    mean, mass, merged = merge_cores(x, KernelSettings(100.0, 'norm'))
    assert (mass == 1).all() and sorted(merged.tolist()) == list(range(len(x)))
    assert (mean[merged] - x).abs().max() < 1e-6


@pytest.mark.parametrize('noise', [0.2, 0.4])
def test_the_radius_is_half_as_much_again_as_the_noise(noise):
    """What lies beyond stays single, although the kernel would not tell it apart."""
    center = torch.zeros(1, 32)
    x, _ = noisy(center, [2000], noise)
    out = BANDWIDTH * torch.tensor([[1.35], [1.65]]) * noise * torch.eye(32)[:1]
    _, mass, merged = merge_cores(torch.cat([x, out]), KernelSettings(100.0, 'norm'))
    assert (mass[merged[:2000]] > 1000).float().mean() > 0.99
    assert mass[merged[2000]] > 1000 and mass[merged[2001]] == 1


def test_the_noise_by_hand():
    """Places of four and of two: 3 + 1 degrees of freedom. The noise is sqrt(0.75 / 4) = 0.43 of the step, the radius 0.65."""
    step = 0.4 * BANDWIDTH
    x = torch.zeros(6, 2)
    x[3, 0], x[4:, 0] = step, 10 * BANDWIDTH
    _, mass, merged = merge_cores(x, KernelSettings(100.0, 'norm'))
    assert mass[merged].tolist() == [3, 3, 3, 1, 2, 2]  # the fourth lies 0.75 of the step from the mean


def test_equal_embeddings_are_one():
    for x in (torch.ones(5000, 3), torch.full((5000, 3), 1e4), torch.zeros(7, 2)):
        mean, mass, merged = merge_cores(x, KernelSettings(100.0, 'norm'))
        assert mass.tolist() == [len(x)] and merged.tolist() == [0] * len(x)
        assert torch.allclose(mean[0], x[0])


def test_the_order_does_not_matter():
    x, _ = clusters(3000, 16)
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(1))
    mean, mass, merged = merge_cores(x, SETTINGS)
    other_mean, other_mass, other_merged = merge_cores(x[order], SETTINGS)
    assert 8 < len(mean) < 2000
    assert torch.equal(mass[merged][order], other_mass[other_merged])
    assert (mean[merged][order] - other_mean[other_merged]).abs().max() < 1e-5


@pytest.mark.parametrize(('dims', 'noise'), [(2, 0.3), (16, 1.0), (64, 1.2)])
def test_the_bound_of_the_attraction(dims, noise):
    """The kernel's sum over the members, seen from all around, against that of their mean with their mass."""
    x, _ = noisy(torch.zeros(1, dims), [1000], noise)
    mean, mass, merged = merge_cores(x, KernelSettings(100.0, 'norm'))
    core = int(mass.argmax())
    inside = x[merged == core].double()
    largest = float((inside - mean[core]).norm(dim=1).max())
    assert len(inside) > 800 and largest <= 4 * BANDWIDTH
    direction = F.normalize(torch.randn(200, dims, generator=torch.Generator().manual_seed(1)), dim=1)
    for distance in (0.05, 0.2, 0.4, 0.8):
        point = (mean[core] + distance * direction).double()
        exact = (-50 * torch.cdist(point, inside).square()).exp().sum(1)
        merged_sum = float(mass[core]) * math.exp(-50 * distance**2)
        factor = math.exp((2 * distance * largest + largest**2) / (2 * BANDWIDTH**2))
        assert (exact / merged_sum).max() <= factor and (merged_sum / exact).max() <= factor
        # The bound is not far off in two dimensions, where members lie in every direction.
        assert dims > 2 or distance < 0.4 or (exact / merged_sum).max() > factor**0.02


def test_an_iteration_over_equal_embeddings_is_the_same_with_masses():
    x = torch.eye(3)[torch.tensor([0] * 500 + [1] * 300 + [2])]
    x = torch.cat([x, F.normalize(torch.tensor([[1.0, 1.0, 0.2]]), dim=1)])
    mean, mass, merged = merge_cores(x, SETTINGS)
    assert sorted(mass.tolist()) == [1, 1, 300, 500]
    expected = dense_loops(x, 20, 1)[1]
    actual = dense_loops(mean, 20, 1, mass_N=mass)[1]
    assert (actual[merged] - expected).abs().max() < 2e-5  # a sum of 500 is rounded
