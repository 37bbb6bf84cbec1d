"""Merges dense clusters into one weighted embedding each, before the first iteration of mean shift.

A grid does not do this: noise in 16 dimensions spreads a cluster over thousands of cells, and of trained embeddings, cells of an
eighth of the bandwidth merge one in ten. Cores are balls around the places where a sample of the embeddings comes together.

Shapes besides those of ``structures``: S embeddings of a sample, K places or cores, B rows of a block, M embeddings after
merging.
"""

import numpy as np
import torch
from torch import Tensor

from .iteration import KernelSettings, shift
from .modes import grid_cells, merge_embeddings

_SAMPLE = 1024
"""Places are looked for in a sample of this size: a cluster of 1/200 of all embeddings has about five of them."""

_LEAST_SAMPLED = 2
"""Fewer embeddings of the sample that come together are no place."""

_RADIUS = 1.5
"""Radius of the cores over the noise: the root mean square distance of the sample from its places."""

_LARGEST_RADIUS = 2.0
_LARGEST_RADIUS_PER_AXIS = 0.6
"""Largest radius in bandwidths, altogether and over the square root of D: the kernel smooths half a bandwidth along an axis."""

_SMALLEST_RADIUS = 1 / 8
"""In bandwidths: where there is no noise, rounding remains."""

_APART = 6.0
_HEAVIER = 8.0
"""A place is no core if another one, within 6 bandwidths, has more than an eighth of its mass: which of the two an embedding in
between joins is left to the iterations."""

_BLOCK = 1 << 19
"""Products of embeddings and centres are computed in blocks of this many values, which fit a processor's cache: 2 MB."""


def merge_cores(x_PD: Tensor, settings: KernelSettings) -> tuple[Tensor, Tensor, Tensor]:
    r"""Merges the members of each core into their mean; all other embeddings stay as they are.

    Two iterations of mean shift take the noise away from a sample of 1024 embeddings. A place where members of the sample
    come to rest is a core, unless a place of similar mass lies near. Its members are the embeddings within a radius r of
    1.5 times the noise, and at most two bandwidths. They would flow into one mode: most of a first iteration over all pairs
    would only find this out. Embeddings beyond r stay single and exact.

    Merging moves a member by its distance s from the mean of the core, at most 2 r. Seen from a distance d of that mean, members
    lie at d - s to d + s, so that for a kernel of bandwidth h their attraction changes by a factor of at most

    .. math:: e^{((d + s)^2 - d^2) / (2 h^2)} = e^{(2 d s + s^2) / (2 h^2)},

    and not at all, however far, where the members are equal.

    The sample is taken at equal steps along a random direction, so that it does not depend on the order of the embeddings.

    Time: P K products for K <= 512 cores. Peak memory above the input (measured): about three times the input in float32.

    Args:
        x_PD: (P, D) of :func:`~.iteration.prepare`, finite, P >= 1.
        settings: of the kernel.

    Returns:
        (M, D) embeddings, (M,) masses (the numbers of merged embeddings), and (P,) int64: which of the M each has become.

    Example:
        >>> x = torch.cat([torch.ones(5000, 2), torch.full((2000, 2), 5.0), torch.tensor([[9.0, 9.0]])])
        >>> mean, mass, merged = merge_cores(x, KernelSettings(100.0, 'norm'))
        >>> mean[merged[[0, 5000, 7000]]].round().tolist(), mass[merged[[0, 5000, 7000]]].tolist()
        ([[1.0, 1.0], [5.0, 5.0], [9.0, 9.0]], [5000.0, 2000.0, 1.0])
    """
    center_KD, radius = _cores(x_PD, settings)
    count = len(center_KD)
    # Embeddings outside of every core keep a number of their own.
    number_P = count + _positions(x_PD)
    if count:
        half_square_K = center_KD.square().sum(1) / 2
        rows = max(1, _BLOCK // count)
        for x_BD, number_B in zip(x_PD.split(rows), number_P.split(rows), strict=True):
            nearest_B = torch.addmm(half_square_K, x_BD, center_KD.T, beta=-1).max(1).indices
            is_member_B = (x_BD - center_KD[nearest_B]).norm(dim=1) <= radius
            number_B.copy_(torch.where(is_member_B, nearest_B, number_B))
    return merge_embeddings(x_PD, None, number_P)


def _cores(x_PD: Tensor, settings: KernelSettings) -> tuple[Tensor, Tensor]:
    """Centres of the cores (K, D), K >= 0, and their common radius."""
    order_P = along_random_direction(x_PD).argsort()
    count = min(_SAMPLE, len(x_PD))
    sample_SD = x_PD[order_P[(_positions(x_PD)[:count] * len(x_PD) + len(x_PD) // 2) // count]]
    # The first iteration takes the noise away; what still moves in the second is on its way between clusters.
    once_SD = shift(sample_SD[None], sample_SD[None], None, settings)
    twice_SD = shift(once_SD, once_SD, None, settings)
    at_rest_S = ((twice_SD - once_SD)[0].norm(dim=1) <= settings.bandwidth / 2).nonzero().squeeze(1)
    sample_SD, twice_SD = sample_SD[at_rest_S], twice_SD[0, at_rest_S]
    mean_KD, mass_K, place_S = merge_embeddings(twice_SD, None, grid_cells(twice_SD, settings.bandwidth / 2))
    # One degree of freedom of each place is spent on its mean.
    variance = (sample_SD - mean_KD[place_S]).square().sum() / (mass_K - 1).sum().clamp(min=1)
    largest = min(_LARGEST_RADIUS_PER_AXIS * x_PD.shape[1] ** 0.5, _LARGEST_RADIUS)
    radius = (_RADIUS * variance.sqrt()).clamp(_SMALLEST_RADIUS * settings.bandwidth, largest * settings.bandwidth)
    place_K = (mass_K >= _LEAST_SAMPLED).nonzero().squeeze(1)
    mean_KD, mass_K = mean_KD[place_K], mass_K[place_K]
    if len(mean_KD) == 0:
        return mean_KD, radius
    # The cells of one cluster lie within a bandwidth: the one with the most embeddings is its place.
    distance_KK = torch.cdist(mean_KD, mean_KD)
    is_first_K = ((distance_KK <= settings.bandwidth) * mass_K).argmax(1) == _positions(mean_KD)
    is_rival_KK = (distance_KK <= _APART * settings.bandwidth) & (mass_K * _HEAVIER > mass_K[:, None]) & is_first_K
    is_rival_KK.fill_diagonal_(0)
    return mean_KD[is_first_K & ~is_rival_KK.any(1)], radius


def along_random_direction(x_PD: Tensor) -> Tensor:
    """Coordinate of each embedding along a random direction, (P,): embeddings that lie together have nearly the same."""
    # By numpy, so that the exported program, which has no torch, takes the same direction.
    direction_D = torch.from_numpy(np.random.RandomState(0).standard_normal(x_PD.shape[1]))
    return x_PD @ direction_D.to(x_PD, non_blocking=True)


def _positions(x_PD: Tensor) -> Tensor:
    return torch.arange(len(x_PD), device=x_PD.device)
