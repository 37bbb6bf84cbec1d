"""The reference functions of the benchmarks, against cases by hand and against the functions of the package."""

import math

import pytest
import torch
from references.dense_mean_shift import dense_loops

from benchmarks.alternatives import (
    attention_iteration,
    components_within,
    dense_grouping,
    dense_iteration,
    dense_pair_terms,
    exact_grouping,
    hill_climb,
    loop_discriminative_terms,
)
from benchmarks.data import margin_groups, mixed_groups
from benchmarks.library_grouping import flat_bandwidth, hdbscan_labels, mean_shift_labels
from benchmarks.losses import make_batch
from mmseg_instancenet.models.losses import discriminative_terms, spherical_pair_terms


def test_dense_iteration_of_three_points_by_hand():
    x_ND = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # Cosines 1, 0, -1 at a concentration of log 2: kernel values 2, 1, 1/2 and 1, 2, 1.
    expected_ND = torch.tensor([[2 - 0.5, 1.0], [0.0, 2.0], [0.5 - 2, 1.0]])
    expected_ND = expected_ND / expected_ND.norm(dim=1, keepdim=True)
    for iterate in (dense_iteration, attention_iteration):
        torch.testing.assert_close(iterate(x_ND, math.log(2)), expected_ND)


@pytest.mark.parametrize('max_bytes', [1, 8 * 40 * 7, 1 << 32])
def test_blocks_of_rows_change_nothing(max_bytes):
    x_ND = mixed_groups(40, 4, 3, seed=0).x_ND
    _, expected_ND = dense_loops(x_ND, 100.0, loops=1)
    torch.testing.assert_close(dense_iteration(x_ND, 100.0, max_bytes), expected_ND.float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(attention_iteration(x_ND, 100.0), expected_ND.float(), atol=1e-5, rtol=0)
    assert torch.equal(components_within(x_ND, 0.3, max_bytes), components_within(x_ND, 0.3))


def test_components_are_those_of_the_graph():
    x_ND = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    joined_NN = (torch.cdist(x_ND, x_ND) <= 0.4).double()
    reached_NN = torch.linalg.matrix_power(joined_NN, 60) > 0
    label_N = components_within(x_ND, 0.4)
    assert torch.equal(label_N[:, None] == label_N[None, :], reached_NN)
    assert sorted(label_N.unique().tolist()) == list(range(1, int(label_N.max()) + 1))


@pytest.mark.parametrize(
    'group',
    [
        lambda x: dense_grouping(x, 100.0, loops=10),
        lambda x: exact_grouping(x, 100.0),
        lambda x: hill_climb(x, 100.0, num_seeds=20),
        lambda x: mean_shift_labels(x, flat_bandwidth(100.0, 16), bin_seeding=False),
        hdbscan_labels,
    ],
)
def test_separated_clusters_are_found(group):
    data = mixed_groups(600, 16, num_groups=6, seed=0, mixed_share=0.0)
    kept_N = torch.bincount(data.group_N)[data.group_N] > 10
    label_N = group(data.x_ND[kept_N])
    grouped_N = label_N >= 0  # HDBSCAN's noise
    truth_N, label_N = data.group_N[kept_N][grouped_N], label_N[grouped_N]
    assert grouped_N.double().mean() > 0.8
    pairs = torch.unique(torch.stack([truth_N, label_N]), dim=1)
    assert pairs.shape[1] == len(truth_N.unique()) == len(label_N.unique())


def test_too_few_seeds_merge_objects():
    assert hill_climb(torch.eye(5), 100.0, num_seeds=3).unique().numel() == 3


def test_bandwidth_has_the_kernels_variance():
    # Of a ball of radius h in one dimension, an interval: h^2 / 3.
    assert flat_bandwidth(25.0, 1) ** 2 / 3 == pytest.approx(1 / 25)


def test_loop_loss_is_discriminative_terms():
    batch = make_batch(margin_groups, images=2, dims=3, side=12, num_instances=7, device='cpu')
    batch.instance_map_NHW[0, :2], batch.class_map_NHW[1, 3] = -1, 255
    expected = discriminative_terms(*batch)
    terms = loop_discriminative_terms(*batch)
    torch.testing.assert_close(torch.stack(list(terms)), torch.stack(list(expected)))
    assert min(terms) > 0
    gradients = [torch.autograd.grad(sum(of), batch.embeddings_NDHW)[0] for of in (terms, expected)]
    torch.testing.assert_close(*gradients)


def test_loop_loss_of_an_image_without_instances():
    batch = make_batch(margin_groups, images=1, dims=3, side=4, num_instances=1, device='cpu')
    batch.instance_map_NHW[:] = 0
    terms = loop_discriminative_terms(*batch)
    assert terms == (0, 0, 0)
    sum(terms).backward()


def test_dense_pair_loss_is_spherical_pair_terms():
    batch = make_batch(mixed_groups, images=2, dims=4, side=8, num_instances=5, device='cpu')
    expected = spherical_pair_terms(*batch, margin=0.6)
    terms = dense_pair_terms(*batch[:2], margin=0.6)
    torch.testing.assert_close(torch.stack(list(terms)), torch.stack(list(expected)))
    assert min(terms) > 0
    gradients = [torch.autograd.grad(sum(of), batch.embeddings_NDHW)[0] for of in (terms, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
