"""Embeddings that mean shift has brought together go on as one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .pruning import Neighbourhood


def collapse(
    x_ND: Tensor, log_mass_N: Tensor | None, hoods: Sequence[Neighbourhood], radius: float
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Replaces what lies within ``radius`` of the mean of its clump by its own mean, with the mass of all of it.

    Where there is no clump, it is what lies in one cell, a tenth of the radius wide, of a grid. A kernel's sum over points
    that lie much closer than its bandwidth is that of their mean, up to the square of their distance in bandwidths.

    Args:
        x_ND: (N, D) embeddings.
        log_mass_N: (N,) logarithm of their masses; ``None`` for 1 each.
        hoods: neighbourhoods of the embeddings, in which the clumps are.
        radius: in units of the embedding.

    Returns:
        (M, D) embeddings, (M,) logarithm of their masses, (N,) which of the M each of the N has become.

    Example:
        >>> x = torch.tensor([[0.0], [0.02], [5.0]])
        >>> clump = Neighbourhood(torch.tensor([0, 1]), torch.tensor([0, 1]), None, True)
        >>> means, log_mass, onto = collapse(x, None, [clump], radius=0.1)
        >>> means.tolist(), log_mass.exp().round().tolist(), onto.tolist()
        ([[0.009999999776482582], [5.0]], [2.0, 1.0], [0, 0, 1])
    """
    mass_N1 = (x_ND.new_zeros(len(x_ND)) if log_mass_N is None else log_mass_N).exp()[:, None]
    clumps = [hood.member_Q for hood in hoods if hood.is_clump]
    if clumps:
        label_N = _join_clumps(x_ND, mass_N1, clumps, radius)
        _, onto_N = torch.unique(label_N, return_inverse=True)
    else:
        _, onto_N = torch.unique(torch.floor(x_ND / (radius / 10)), dim=0, return_inverse=True)
    mean_MD, mass_M1 = _means(x_ND, mass_N1, onto_N, int(onto_N.max()) + 1)
    return mean_MD, mass_M1[:, 0].log(), onto_N


def _join_clumps(x_ND: Tensor, mass_N1: Tensor, clumps: Sequence[Tensor], radius: float) -> Tensor:
    """One number for what goes on as one, (N,)."""
    clump_N = torch.full((len(x_ND),), len(clumps), device=x_ND.device)
    for number, member_Q in enumerate(clumps):
        clump_N[member_Q] = number
    center_KD, _ = _means(x_ND, mass_N1, clump_N, len(clumps) + 1)
    joins_N = (clump_N < len(clumps)) & ((x_ND - center_KD[clump_N]).norm(dim=1) <= radius)
    return torch.where(joins_N, clump_N, len(clumps) + torch.arange(len(x_ND), device=x_ND.device))


def _means(x_ND: Tensor, mass_N1: Tensor, group_N: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Means of ``count`` groups by mass, and their masses (0 and 1e-30 for an empty one)."""
    mass_K1 = mass_N1.new_zeros(count, 1).index_add_(0, group_N, mass_N1)
    sum_KD = x_ND.new_zeros(count, x_ND.shape[1]).index_add_(0, group_N, mass_N1 * x_ND)
    return sum_KD / mass_K1.clamp(min=1e-30), mass_K1
