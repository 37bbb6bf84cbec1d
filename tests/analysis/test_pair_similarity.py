"""Pairs of pixels: drawn with the weights of the loss; their similarities after iterations of mean shift."""

import math
from collections import Counter

import pytest
import torch

from mmseg_instancenet.analysis.labelled_embeddings import shift_embeddings
from mmseg_instancenet.analysis.pair_similarity import calibrated_similarities, draw_pairs
from mmseg_instancenet.models import MeanShiftGrouping


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_instance_counts_alike():
    instances = torch.tensor([5, 9, 5, 5, 2, 9, 5, 5, 5, 5])  # sizes 7, 2 and 1
    positive, negative = draw_pairs(instances, torch.ones(10), 30000, seeded())
    assert positive.shape == negative.shape == (30000, 2)
    first, second = instances[positive].T
    assert torch.equal(first, second)
    assert {k: n / 30000 for k, n in Counter(first.tolist()).items()} == pytest.approx(
        {5: 1 / 3, 9: 1 / 3, 2: 1 / 3}, abs=0.01
    )
    kinds = Counter(map(tuple, instances[negative].tolist()))
    assert {k: n / 30000 for k, n in kinds.items()} == pytest.approx(
        {(a, b): 1 / 6 for a in (2, 5, 9) for b in (2, 5, 9) if a != b}, abs=0.01
    )
    # Within an instance its pixels alike.
    of_five = Counter(positive[first == 5].flatten().tolist())
    assert len(of_five) == 7
    assert max(of_five.values()) < 1.1 * min(of_five.values())


def test_negative_pairs_lie_in_one_region():
    """One id in two regions is two instances, which are never paired."""
    instances, regions = torch.tensor([1, 2, 1, 4]), torch.tensor([1, 1, 2, 2])
    pairs = draw_pairs(instances, regions, 200, seeded())
    assert set(map(tuple, pairs.negative_M2.tolist())) == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert set(map(tuple, pairs.positive_M2.tolist())) == {(0, 0), (1, 1), (2, 2), (3, 3)}


def test_a_seed_gives_the_same_pairs():
    instances = torch.arange(50) % 7
    draws = [draw_pairs(instances, torch.ones(50), 20, seeded(seed)) for seed in (1, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(draws[0], draws[1], strict=True))
    assert not torch.equal(draws[0].negative_M2, draws[2].negative_M2)


@pytest.mark.parametrize(('instances', 'sizes'), [([], (0, 0)), ([3, 3], (8, 0)), ([3, 4], (8, 8))])
def test_without_such_pairs_there_are_none(instances, sizes):
    ids = torch.tensor(instances, dtype=torch.long)
    pairs = draw_pairs(ids, torch.ones_like(ids), 8, seeded())
    assert tuple(map(len, pairs)) == sizes
    assert tuple(len(calibrated_similarities(torch.randn(len(ids), 3), of_kind)) for of_kind in pairs) == sizes


def test_similarities_are_the_papers():
    x = torch.randn(6, 4, generator=seeded())
    pairs = [(i, j) for i in range(6) for j in range(6)]
    expected = [
        (
            1
            + sum(a * b for a, b in zip(x[i].tolist(), x[j].tolist(), strict=True))
            / math.sqrt(float((x[i] ** 2).sum() * (x[j] ** 2).sum()))
        )
        / 2
        for i, j in pairs
    ]
    assert calibrated_similarities(x, torch.tensor(pairs)).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('concentration', [25, 100])
def test_ten_loops_push_positive_similarities_to_one(concentration):
    """Figure 12: with noise of the size of the bandwidth, and negative pairs stay where they were."""
    noise = 1 / math.sqrt(3 * concentration)
    instances = torch.arange(5).repeat_interleave(80)
    x = torch.eye(5)[instances] + noise * torch.randn(400, 5, generator=seeded())
    pairs = draw_pairs(instances, torch.ones(400), 2000, seeded())
    loops = shift_embeddings(MeanShiftGrouping(concentration=concentration), x, torch.ones(400, dtype=torch.long), 10)
    positive, negative = (
        torch.stack([calibrated_similarities(shifted, of_kind) for shifted in loops]) for of_kind in pairs
    )
    assert float(positive[0].mean()) < 0.995 < 0.9999 < float(positive[10].mean())
    assert float(positive[10].min()) > 0.999
    assert (positive.mean(1).diff() > -1e-6).all()
    assert float(negative[0].mean()) == pytest.approx(0.5, abs=0.02)
    assert float(negative[10].mean()) == pytest.approx(0.5, abs=0.02)
    assert float(negative[10].std()) < 0.5 * float(negative[0].std())
