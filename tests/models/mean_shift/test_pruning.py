"""Pruning: no pair within reach is skipped, and the skipped pairs do not depend on the order."""

import math

import pytest
import torch
from references.dense_mean_shift import blobs, clusters

from mmseg_instancenet.models.mean_shift.pruning import neighbourhoods, reach_of

REACH = 0.7


def line(count):
    """A dense line through everything: clusters touch each other all along it."""
    return torch.linspace(0, 8, count)[:, None] * torch.tensor([[1.0, 0.5, 0.25]])


POINTS = {
    'clusters': clusters(1500, 16)[0],
    'clusters in three dimensions': clusters(1500, 3)[0],
    'blobs': blobs(3, count=700, spread=0.3),
    'line': line(900),
    'line far away': line(900) + 300,
    'uniform': torch.rand(800, 2, generator=torch.Generator().manual_seed(0)) * 4,
    'two points': torch.tensor([0.0, 3.0])[torch.arange(500) % 2][:, None],
    'two points, one of them dense': torch.tensor([0.0, 3.0])[(torch.arange(3000) % 5 > 0).long()][:, None],
}


def prune(x, log_mass=None, reach=REACH, max_keys=None, is_outlier=None):
    """Without thinning unless ``max_keys`` is given."""
    log_mass = torch.zeros(len(x)) if log_mass is None else log_mass
    return neighbourhoods(x, log_mass, 0.1, reach, len(x) if max_keys is None else max_keys, is_outlier)


def keys_of(parts, count):
    """Whether each embedding is a key of each other one, (P, P) bool, from the indices alone."""
    seen, is_key = torch.zeros(count, dtype=torch.long), torch.zeros(count, count, dtype=torch.bool)
    for part in parts:
        seen[part.member_Q] += 1
        is_key[part.member_Q[:, None], part.key_R] = True
        assert len(part.key_R.unique()) == len(part.key_R) == len(part.log_mass_R)
    assert (seen == 1).all()  # everything is a member once
    return is_key


@pytest.mark.parametrize('name', POINTS)
def test_every_pair_within_reach_is_kept(name):
    x = POINTS[name]
    log_mass = torch.rand(len(x), generator=torch.Generator().manual_seed(3))
    parts = prune(x, log_mass)
    if not parts:
        assert name == 'blobs'
        return
    is_key = keys_of(parts, len(x))
    distance = torch.cdist(x.double(), x.double())
    assert is_key[distance <= REACH].all()
    assert is_key.double().mean() < 0.7  # and others are skipped
    for part in parts:
        assert torch.equal(part.log_mass_R, log_mass[part.key_R])
    for cluster in parts[:-1]:  # the last may be the outliers
        assert distance[cluster.member_Q][:, cluster.member_Q].max() <= 0.4 + 1e-4


def test_no_pruning_if_it_would_not_save_time():
    scattered = torch.randn(600, 32, generator=torch.Generator().manual_seed(0))
    assert prune(scattered) == []
    assert prune(torch.ones(600, 4)) == []
    assert prune(clusters(600, 16)[0], reach=3.0) == []


@pytest.mark.parametrize('max_keys', [None, 50])
def test_the_order_does_not_matter(max_keys):
    x, _ = clusters(1500, 16)
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(1))
    first, second = prune(x, max_keys=max_keys), prune(x[order], max_keys=max_keys)
    for a, b in zip(first, second, strict=True):
        assert sorted(a.member_Q.tolist()) == sorted(order[b.member_Q].tolist())
        assert sorted(a.key_R.tolist()) == sorted(order[b.key_R].tolist())


def test_outliers_wherever_they_lie():
    x, _ = clusters(1500, 16)
    is_outlier = torch.arange(1500) % 3 == 0
    parts = prune(x, is_outlier=is_outlier)
    assert not any(is_outlier[cluster.member_Q].any() for cluster in parts[:-1])
    is_key = keys_of(parts, 1500)
    assert is_key[is_outlier].all()
    assert is_key[torch.cdist(x, x) <= REACH].all()
    assert prune(x, is_outlier=torch.ones(1500, dtype=torch.bool)) == []


def test_thinned_keys_are_the_heaviest_and_have_the_mass_of_all():
    x, _ = clusters(1500, 16)
    drawn = torch.rand(1500, generator=torch.Generator().manual_seed(2)) * 3
    for log_mass in (torch.zeros(1500), drawn):
        whole, thinned = prune(x, log_mass), prune(x, log_mass, max_keys=40)
        for a, b in zip(whole, thinned, strict=True):
            assert torch.equal(a.member_Q, b.member_Q)
            assert float(b.log_mass_R.exp().sum()) == pytest.approx(float(log_mass[a.key_R].exp().sum()), rel=1e-4)
            for cluster in whole[:-1]:
                inside = set(cluster.member_Q.tolist())
                kept = [k for k in b.key_R.tolist() if k in inside]
                if kept:
                    assert len(kept) == min(40, len(inside))
                    assert min(log_mass[kept]) >= max(log_mass[sorted(inside - set(kept))], default=-math.inf)


@pytest.mark.parametrize('bandwidth', [0.1, 2.0])
def test_at_reach_all_kernel_values_together_are_a_thousandth_of_the_own_one(bandwidth):
    mass = torch.tensor([2.0, 3.0, 100.0])
    reach = reach_of(mass.log(), bandwidth)
    assert 105 * math.exp(-((reach / bandwidth) ** 2) / 2) == pytest.approx(0.001 * 2, rel=1e-4)
