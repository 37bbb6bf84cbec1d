"""Processes that share a batch get the losses and gradients that one process gets for the whole batch."""

import pytest
import torch
from batch_shares import CASES, OF_ONE_PROCESS, largest_difference, losses_and_gradients, make_batch, shares_of_rank
from several_processes import run_ranks

from mmseg_instancenet.models.losses.process_sums import sum_over_processes

NAMES = [*CASES, *OF_ONE_PROCESS]
"""In float64; tests/faults/processes.py has float32 and four processes too."""


@pytest.fixture(scope='module')
def shares(tmp_path_factory):
    """For each rank of two and each model: losses and gradients of its share of the batch."""
    ranks = run_ranks(shares_of_rank, 2, tmp_path_factory.mktemp('shares'), NAMES, [torch.float64])
    return [dict(zip(NAMES, of_rank[0], strict=True)) for of_rank in ranks]


@pytest.mark.parametrize('name', CASES)
def test_two_processes_get_the_losses_and_gradients_of_one(shares, name):
    whole = losses_and_gradients(name, torch.float64)
    assert any(value.any() for key, value in whole.items() if 'loss' not in key)
    assert largest_difference([share[name] for share in shares], whole) < 1e-10


@pytest.mark.parametrize('name', OF_ONE_PROCESS)
def test_a_loss_divided_by_the_count_of_its_own_process_would_show(shares, name):
    assert largest_difference([share[name] for share in shares], losses_and_gradients(name, torch.float64)) > 0.01


def test_the_shares_differ_in_what_losses_divide_by():
    labels = torch.stack([sample.gt_instance_map.data for sample in make_batch(boundaries=False)[1]])
    assert len({int((share != -1).sum()) for share in labels.chunk(2)}) == 2
    assert len({int((share > 0).sum()) for share in labels.chunk(4)}) == 4
    assert not (labels.chunk(4)[1] > 0).any()  # of four processes one has no instance


def product_of_sums():
    """A function of a sum over the processes, and its gradient averaged over them."""
    rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    own = torch.tensor([1.5, -2.0]).double() * (rank + 1)
    own.requires_grad_()
    total = sum_over_processes(own)
    total.prod().backward()
    torch.distributed.all_reduce(own.grad)
    return [total.detach(), own.grad / count]


@pytest.mark.parametrize('count', [2, 3])
def test_the_gradient_of_a_sum_is_that_which_is_averaged(tmp_path, count):
    whole = torch.tensor([1.5, -2.0]).double() * sum(range(1, count + 1))
    for total, gradient in run_ranks(product_of_sums, count, tmp_path):
        torch.testing.assert_close(total, whole)
        torch.testing.assert_close(gradient, whole.flip(0) * count)  # of each of the processes, d prod / d sum


def test_one_process_keeps_its_sums():
    own = torch.ones(3)
    assert sum_over_processes(own) is own
