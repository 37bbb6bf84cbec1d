"""Collapse: mass and the mean of everything stay, what lies apart goes on alone."""

import math

import pytest
import torch

from mmseg_instancenet.models.mean_shift.collapse import collapse
from mmseg_instancenet.models.mean_shift.pruning import Neighbourhood


def clump_of(*indices):
    index = torch.tensor(indices)
    return Neighbourhood(index, index, None, True)


def test_by_hand():
    x = torch.tensor([[9.0], [0.0], [0.3], [5.0], [0.0], [5.2]])
    strays = Neighbourhood(torch.tensor([0]), torch.arange(6), None, False)
    hoods = [clump_of(1, 2, 4), clump_of(3, 5), strays]
    mean, log_mass, onto = collapse(x, None, hoods, radius=0.15)
    # 0.3 lies 0.2 from the mean 0.1 of its clump and goes on by itself.
    assert mean[onto].flatten().tolist() == pytest.approx([9, 0, 0.3, 5.1, 0, 5.1])
    assert log_mass.exp()[onto].tolist() == pytest.approx([1, 2, 1, 2, 2, 2])
    assert len(mean) == 4
    # With masses: the mean of the first clump moves to (0.3 x 3 + 0 x 2) / 5 = 0.18, and only 0.3 is near it.
    log_mass = torch.tensor([1.0, 1.0, 3.0, 2.0, 1.0, 6.0]).log()
    mean, log_mass, onto = collapse(x, log_mass, hoods, radius=0.16)
    assert mean[onto].flatten().tolist() == pytest.approx([9, 0, 0.3, 5.15, 0, 5.15])
    assert log_mass.exp()[onto].tolist() == pytest.approx([1, 1, 3, 8, 1, 8])
    assert onto[1] != onto[4]


def test_mass_and_mean_stay():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator) * 0.1
    log_mass = torch.randn(40, generator=generator)
    mean, merged, onto = collapse(x, log_mass, [clump_of(*range(0, 40, 2))], radius=0.15)
    assert 20 < len(mean) < 40 and len(onto) == 40
    assert float(merged.exp().sum()) == pytest.approx(float(log_mass.exp().sum()), rel=1e-5)
    expected = (log_mass.exp()[:, None] * x).sum(0)
    assert (merged.exp()[:, None] * mean).sum(0).tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_without_a_clump_what_lies_in_a_cell_of_the_grid_goes_on_as_one():
    x = torch.tensor([[0.01, 0.09], [0.11, 0.01], [0.09, 0.02], [-0.01, 0.01], [0.01, 0.09]])
    for hoods in ([], [Neighbourhood(torch.arange(5), torch.arange(5), None, False)]):
        mean, log_mass, onto = collapse(x, None, hoods, radius=1.0)
        assert log_mass.exp()[onto].tolist() == pytest.approx([3, 1, 3, 1, 3])
        assert onto[0] == onto[2] == onto[4] and len(mean) == 3
        assert mean[onto[0]].tolist() == pytest.approx([0.11 / 3, 0.2 / 3])


def test_a_clump_on_one_spot():
    mean, log_mass, onto = collapse(torch.zeros(5, 2), None, [clump_of(*range(5))], radius=1.0)
    assert mean.tolist() == [[0, 0]] and float(log_mass) == pytest.approx(math.log(5)) and onto.tolist() == [0] * 5
