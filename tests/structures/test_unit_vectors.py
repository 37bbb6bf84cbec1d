"""Unit vectors, and vectors without a direction."""

import torch

from mmseg_instancenet.structures import unit_vectors


def test_lengths_and_directions():
    x = torch.tensor([[[3.0], [4.0]], [[-1e-6], [0.0]]])
    assert torch.allclose(unit_vectors(x, dim=1), torch.tensor([[[0.6], [0.8]], [[-1.0], [0.0]]]))


def test_without_direction_there_is_no_gradient():
    x = torch.tensor([[0.0, 0.0], [1e-13, 0.0], [2.0, 0.0]], requires_grad=True)
    unit = unit_vectors(x, dim=1)
    assert unit.tolist() == [[0, 0], [0, 0], [1, 0]]
    (unit * torch.tensor([3.0, 5.0])).sum().backward()
    # Of x / |x|: what is across the vector, over its length.
    assert x.grad.tolist() == [[0, 0], [0, 0], [0, 2.5]]


def test_a_length_that_overflows_is_no_direction():
    x = torch.tensor([[1e30, 0.0], [3.0, 4.0], [1e18, 0.0], [float('inf'), 0.0], [float('nan'), 0.0]])
    unit = unit_vectors(x, dim=1)
    assert unit.isnan().any(1).tolist() == [True, False, False, True, True]
    assert torch.allclose(unit[1:3], torch.tensor([[0.6, 0.8], [1.0, 0.0]]))
    assert torch.equal(unit_vectors(x[:1].double(), dim=1), torch.tensor([[1.0, 0.0]], dtype=torch.float64))


def test_gradcheck():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: unit_vectors(x, dim=1), x)
