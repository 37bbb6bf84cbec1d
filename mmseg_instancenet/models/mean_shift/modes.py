"""Groups shifted embeddings: embeddings closer than the resolution of the kernel are one mode.

Shapes besides those of ``structures``: C cells of a grid, B rows of a block.
"""

import torch
from torch import Tensor

from ...structures import check_finite

_BLOCK = 1 << 21
"""Distances between cells are computed in blocks of this many values: 16 MB."""


def merge_modes(x_PD: Tensor, radius: float) -> Tensor:
    """Groups embeddings into the connected components of the graph that joins embeddings at most ``radius`` apart.

    The result does not depend on the order of the embeddings, and there is no limit to the number of groups. Embeddings
    that lie in one cell of a fine grid are first taken together, as those of a converged mean shift do; distances are
    then taken between the means of the cells, in blocks. Components are therefore exact up to an eighth of the radius.

    Time: one pass over all pairs of cells for each doubling of the longest chain. Peak memory above the input
    (measured): about eight times the input in float32, and 40 MB.

    Args:
        x_PD: (P, D) finite embeddings, P >= 1.
        radius: > 0, in units of the embedding.

    Returns:
        (P,) int64 group of each, 1, 2, .. in order of the first member.

    Raises:
        ValueError: if the radius is not positive or an embedding is not finite.

    Example:
        >>> merge_modes(torch.tensor([[0.0], [5.0], [0.4], [0.8]]), radius=0.5)
        tensor([1, 2, 1, 1])
    """
    if x_PD.dim() != 2 or len(x_PD) == 0:
        raise ValueError(f'expected embeddings (P, D) with P >= 1, got {tuple(x_PD.shape)}')
    if not radius > 0:
        raise ValueError(f'expected a radius > 0 in units of the embedding, got {radius}')
    check_finite(x_PD)
    # In float64 and relative to their mean: far from 0 or at a small radius, the rounding of squares in float32 exceeds it.
    x_PD = x_PD.double()
    x_PD = x_PD - x_PD.mean(0)
    # The diagonal of a cell measures a sixteenth of the radius, and the mean of a cell is off by at most that.
    cell = radius / (16 * x_PD.shape[1] ** 0.5)
    mean_CD, _, cell_P = merge_cells(x_PD, None, cell)
    return number_groups(_components(mean_CD, radius)[cell_P])


def merge_cells(x_PD: Tensor, mass_P: Tensor | None, cell: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""Merges the embeddings in each cell of a grid into their mean, weighted by mass, with the sum of their masses.

    The cells are cubes, the middle of one of them at the origin: which one an embedding lies in depends on nothing but its own
    values. An embedding is moved by at most the diagonal of a cell, :math:`c = \sqrt D` times its edge. For a kernel of
    bandwidth h, the attraction from a distance d of the mean changes by a factor of at most

    .. math:: e^{((d + c)^2 - d^2) / (2 h^2)} = e^{(2 d c + c^2) / (2 h^2)},

    and not at all, however far, where the embeddings in a cell are equal.

    Peak memory above the input (measured): about six times the input in float32.

    Args:
        x_PD: (P, D) finite embeddings, P >= 1.
        mass_P: (P,) masses > 0; ``None`` for 1 each.
        cell: edge of a cell, in units of the embedding.

    Returns:
        (C, D) means, (C,) masses, both of the input's type, and (P,) int64: which of the C each of the P has become.

    Example:
        >>> x = torch.tensor([[0.0], [0.25], [5.0]])
        >>> mean, mass, cell_of_each = merge_cells(x, torch.tensor([1.0, 3.0, 1.0]), cell=1.0)
        >>> mean[cell_of_each].tolist(), mass[cell_of_each].tolist()
        ([[0.1875], [0.1875], [5.0]], [4.0, 4.0, 1.0])
    """
    return merge_embeddings(x_PD, mass_P, grid_cells(x_PD, cell))


def grid_cells(x_PD: Tensor, cell: float) -> Tensor:
    """A number for each embedding, (P,) int64, that those in the same cell of :func:`merge_cells` have in common.

    It is a hash of the coordinates of the cell, with random odd factors: two cells share a number about once in 10^15 pairs.
    """
    # Coordinates of cells stay floats, since those of tiny cells do not fit an integer. Their fraction and exponent are integers;
    # torch.jit, by which MMEngine counts operations, cannot trace a view of their bits.
    fraction_PD, exponent_PD = torch.frexp((x_PD / cell + 0.5).floor_().double())
    number_PD = (fraction_PD * 2.0**53).long() ^ exponent_PD
    # The low bits of small numbers are 0, and a product keeps only the low ones: the high ones are brought down.
    number_PD = number_PD ^ (number_PD >> 32)
    factor_D = torch.randint(2**62, (x_PD.shape[1],), generator=torch.Generator().manual_seed(0)) * 2 + 1
    return (number_PD * factor_D.to(x_PD.device, non_blocking=True)).sum(1)  # overflows wrap around


def merge_embeddings(x_PD: Tensor, mass_P: Tensor | None, number_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Merges embeddings that have the same number into their mean; arguments and results as in :func:`merge_cells`."""
    number_M, merged_P = number_P.unique(return_inverse=True)
    weight_P = x_PD.new_ones(len(x_PD)) if mass_P is None else mass_P
    mass_M = weight_P.new_zeros(len(number_M)).index_add_(0, merged_P, weight_P)
    # Sums of differences to the mean of all: far from the origin, sums of the values would be rounded too much.
    origin_D = x_PD.mean(0)
    weighted_PD = (x_PD - origin_D).mul_(weight_P[:, None])
    sum_MD = x_PD.new_zeros(len(number_M), x_PD.shape[1]).index_add_(0, merged_P, weighted_PD)
    return sum_MD.div_(mass_M[:, None]).add_(origin_D), mass_M, merged_P


def _components(x_CD: Tensor, radius: float) -> Tensor:
    """For each point the smallest index in its connected component."""
    count = len(x_CD)
    label_C = torch.arange(count, device=x_CD.device)
    while True:
        before_C = label_C
        lowest_C = torch.empty_like(label_C)
        for block in torch.arange(count, device=x_CD.device).split(max(1, _BLOCK // count)):
            near_BC = torch.cdist(x_CD[block], x_CD) <= radius
            lowest_C[block] = torch.where(near_BC, label_C, count).amin(1)
        # The smallest number of a neighbour is passed to the whole component so far, then followed to its root.
        label_C = label_C.scatter_reduce(0, label_C, lowest_C, reduce='amin')[label_C]
        while True:
            root_C = label_C[label_C]
            if torch.equal(root_C, label_C):
                break
            label_C = root_C
        if torch.equal(label_C, before_C):
            return label_C


def number_groups(label_P: Tensor) -> Tensor:
    """Renumbers labels 1, 2, .. in the order in which they first occur."""
    value_K, index_N = torch.unique(label_P, return_inverse=True)
    count = len(value_K)
    position_N = torch.arange(len(label_P), device=label_P.device)
    first_K = torch.full((count,), len(label_P), device=label_P.device).scatter_reduce_(
        0, index_N, position_N, reduce='amin'
    )
    rank_K = torch.empty_like(first_K)
    rank_K[first_K.argsort()] = torch.arange(1, count + 1, device=label_P.device)
    return rank_K[index_N]
