"""Neighbourhoods: no pair within reach is ever left out, and what is left out does not depend on the order."""

import math

import pytest
import torch
from dense_mean_shift import blobs, crowds

from mmseg_instancenet.models.mean_shift.pruning import neighbourhoods

REACH = 0.7


def line(count):
    """A dense line through everything: clumps touch each other all along it."""
    return torch.linspace(0, 8, count)[:, None] * torch.tensor([[1.0, 0.5, 0.25]])


POINTS = {
    'crowds': crowds(1500, 16)[0],
    'crowds in three dimensions': crowds(1500, 3)[0],
    'blobs': blobs(3, count=700, spread=0.3),
    'line': line(900),
    'line far away': line(900) + 300,
    'uniform': torch.rand(800, 2, generator=torch.Generator().manual_seed(0)) * 4,
    'two points': torch.tensor([0.0, 3.0])[torch.arange(500) % 2][:, None],
    'two points, one of them crowded': torch.tensor([0.0, 3.0])[(torch.arange(3000) % 5 > 0).long()][:, None],
}


def keys_of(hoods, count):
    """Which embedding is a key of which, (N, N) bool, from the indices alone."""
    seen, key_NN = torch.zeros(count, dtype=torch.long), torch.zeros(count, count, dtype=torch.bool)
    for hood in hoods:
        seen[hood.member_Q] += 1
        key_NN[hood.member_Q[:, None], hood.key_R] = True
        assert len(hood.key_R.unique()) == len(hood.key_R)
    assert (seen == 1).all()  # everything is a member once
    return key_NN


@pytest.mark.parametrize('name', POINTS)
def test_every_pair_within_reach_is_kept(name):
    x = POINTS[name]
    hoods = neighbourhoods(x, bandwidth=0.1, reach=REACH)
    if not hoods:
        assert name == 'blobs'
        return
    key_NN = keys_of(hoods, len(x))
    distance = torch.cdist(x.double(), x.double())
    assert key_NN[distance <= REACH].all()
    assert key_NN.double().mean() < 0.7  # and the others are not
    for hood in hoods:
        assert hood.log_scale_R is None
    for hood in hoods[:-1]:  # the last may be the outliers
        assert distance[hood.member_Q][:, hood.member_Q].max() <= 0.4 + 1e-4


def test_nothing_where_nothing_would_be_gained():
    scattered = torch.randn(600, 32, generator=torch.Generator().manual_seed(0))
    assert neighbourhoods(scattered, bandwidth=0.1, reach=REACH) == []
    assert neighbourhoods(torch.ones(600, 4), bandwidth=0.1, reach=REACH) == []
    assert neighbourhoods(crowds(600, 16)[0], bandwidth=0.1, reach=3.0) == []


@pytest.mark.parametrize('max_keys', [None, 50])
def test_the_order_does_not_matter(max_keys):
    x, _ = crowds(1500, 16)
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(1))
    settings = dict(bandwidth=0.1, reach=REACH, max_keys=max_keys, log_mass_N=None)
    first = neighbourhoods(x, **settings)
    second = neighbourhoods(x[order], **settings)
    for a, b in zip(first, second, strict=True):
        assert sorted(a.member_Q.tolist()) == sorted(order[b.member_Q].tolist())
        assert sorted(a.key_R.tolist()) == sorted(order[b.key_R].tolist())
    assert len(first) == len(second)


def test_what_does_not_count_is_no_clump():
    x, _ = crowds(1500, 16)
    counts = torch.arange(1500) % 3 > 0
    hoods = neighbourhoods(x, bandwidth=0.1, reach=REACH, counts_N=counts)
    assert all(counts[hood.member_Q].all() for hood in hoods[:-1])
    key_NN = keys_of(hoods, 1500)
    assert key_NN[~counts].all()
    assert key_NN[torch.cdist(x, x) <= REACH].all()
    assert neighbourhoods(x, bandwidth=0.1, reach=REACH, counts_N=torch.zeros(1500, dtype=torch.bool)) == []


def test_some_stand_for_all():
    x, _ = crowds(1500, 16)
    log_mass = torch.rand(1500, generator=torch.Generator().manual_seed(2)) * 3
    whole = neighbourhoods(x, bandwidth=0.1, reach=REACH)
    for masses in (None, log_mass):
        thinned = neighbourhoods(x, bandwidth=0.1, reach=REACH, max_keys=40, log_mass_N=masses)
        assert len(thinned) == len(whole)
        mass = torch.ones(1500) if masses is None else masses.exp()
        for a, b in zip(whole, thinned, strict=True):
            assert torch.equal(a.member_Q, b.member_Q)
            # The masses of the keys, scaled, sum to what they were.
            scale = torch.ones(len(b.key_R)) if b.log_scale_R is None else b.log_scale_R.exp()
            assert float((mass[b.key_R] * scale).sum()) == pytest.approx(float(mass[a.key_R].sum()), rel=1e-4)
            for clump in whole[:-1]:
                inside = set(clump.member_Q.tolist())
                kept = [k for k in b.key_R.tolist() if k in inside]
                if kept:
                    assert len(kept) == min(40, len(inside))
                    if masses is not None:
                        assert min(log_mass[kept]) >= max(log_mass[sorted(inside - set(kept))], default=-math.inf)
