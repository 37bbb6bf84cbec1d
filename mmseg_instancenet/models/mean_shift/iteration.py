"""Blurring mean shift as attention (Kong & Fowlkes 2018, equation 3)."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...structures import SHORTEST, unit_vectors
from .pruning import Neighbourhood, is_crowd, neighbourhoods

Kernel = Literal['cosine', 'norm']

_NO_MASS = -1e30
"""Logarithm of the mass of a pixel that does not count: finite, so that 0 times it is 0 in the backward pass."""


_COARSE = 1e-3
"""Share of a mean that may be left out where a few embeddings stand for many, which changes means more than that."""


class KernelSettings(NamedTuple):
    """What a loop of :func:`mean_shift` is made with; see there."""

    concentration: float
    kernel: Kernel = 'cosine'
    step_size: float = 1.0

    def check(self) -> None:
        """Raises ValueError unless they are settings of a kernel."""
        if not self.concentration > 0:
            raise ValueError(f'expected a concentration > 0, got {self.concentration}')
        if not 0 < self.step_size <= 1:
            raise ValueError(f'expected a step_size in (0, 1], got {self.step_size}')
        if self.kernel not in ('cosine', 'norm'):
            raise ValueError(f"expected kernel 'cosine' or 'norm', got {self.kernel!r}")

    @property
    def bandwidth(self) -> float:
        r""":math:`1 / \sqrt\delta`, in units of the embedding."""
        return self.concentration**-0.5


def mean_shift(
    x_BND: Tensor,
    concentration: float,
    *,
    kernel: Kernel = 'cosine',
    step_size: float = 1.0,
    mass_BN: Tensor | None = None,
) -> Iterator[Tensor]:
    r"""The embeddings before the first loop of blurring mean shift, after it, after the second, and so on without end.

    With the von Mises-Fisher kernel (``'cosine'``), on unit vectors in the rows of X (Kong & Fowlkes 2018, equation 3):

    .. math:: K = \exp(\delta X X^T), \quad X \leftarrow \eta \, \mathrm{diag}(K 1)^{-1} K X + (1 - \eta) X,

    rows back to unit length. With the Gaussian kernel (``'norm'``), :math:`K_{ij} = \exp(-\delta/2 \, \|x_i - x_j\|^2)` and
    lengths are kept; on unit vectors both kernels are one, of bandwidth :math:`1 / \sqrt\delta`. K is made anew in
    each loop. One loop is attention with the embeddings as queries, keys and values, and is computed by PyTorch's
    fused attention, which never makes K: memory linear in the pixels, the maximum subtracted before exponentials,
    differentiable through all loops. Computed in float32 (float64 for float64 input), also under autocast. In a large
    picture, pairs that cannot change a mean by more than its rounding are left out (:func:`~.neighbourhoods.neighbourhoods`).

    Time: N^2 D operations a loop; where groups are well apart, little more than the sum over the groups of their squares.
    Peak memory above the input, forward and backward: about ten times the embeddings for each loop kept for backward.

    Args:
        x_BND: (B, N, D) embeddings of N pixels of B pictures; need not have unit length.
        concentration: delta > 0, in units of 1 / embedding^2.
        kernel: 'cosine' or 'norm'.
        step_size: eta in (0, 1].
        mass_BN: (B, N) >= 0, how much each pixel counts in the kernel: 0 for pixels that attract none (padding, ignored
            ones; they are moved all the same). All pixels count 1 unless given.

    Yields:
        (B, N, D) embeddings, of unit length for ``'cosine'``; the first are the input's.

    Raises:
        ValueError: with the first embeddings that are asked for, if a shape or a setting does not fit.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]])
        >>> loops = mean_shift(x, concentration=100)
        >>> before, after = next(loops), next(loops)
        >>> bool((after[0, 0] - after[0, 1]).norm() < (before[0, 0] - before[0, 1]).norm() / 3)
        True
    """
    if x_BND.dim() != 3 or not x_BND.is_floating_point():
        raise ValueError(f'expected floating point embeddings (B, N, D), got {tuple(x_BND.shape)} {x_BND.dtype}')
    if mass_BN is not None and mass_BN.shape != x_BND.shape[:2]:
        raise ValueError(f'expected masses {tuple(x_BND.shape[:2])}, one a pixel, got {tuple(mass_BN.shape)}')
    if mass_BN is not None and not bool((mass_BN >= 0).all()):
        raise ValueError('expected masses >= 0, got a negative one or NaN')
    settings = KernelSettings(concentration, kernel, step_size)
    settings.check()
    x_BND = prepare(x_BND, kernel)
    log_mass_BN = None if mass_BN is None else torch.where(mass_BN > 0, mass_BN.to(x_BND).log(), _NO_MASS)
    while True:
        yield x_BND
        if is_crowd(x_BND):
            masses = [None] * len(x_BND) if log_mass_BN is None else log_mass_BN.split(1)
            shifted = [
                shift(x_1ND, log_mass_1N, settings, find_neighbourhoods(x_1ND, log_mass_1N, settings))
                for x_1ND, log_mass_1N in zip(x_BND.split(1), masses, strict=True)
            ]
            x_BND = torch.cat(shifted)
        else:
            x_BND = shift(x_BND, log_mass_BN, settings)


def prepare(x: Tensor, kernel: Kernel) -> Tensor:
    """Embeddings (.., D) as the loops want them: in float32 or float64, and of unit length for the cosine kernel."""
    if x.dtype != torch.float64:
        x = x.float()
    return unit_vectors(x, dim=-1) if kernel == 'cosine' else x


def shift(
    x_BND: Tensor,
    log_mass_BN: Tensor | None,
    settings: KernelSettings,
    hoods: Sequence[Neighbourhood] = (),
) -> Tensor:
    """One loop: the embeddings (B, N, D) after it.

    Args:
        x_BND: of :func:`prepare`.
        log_mass_BN: logarithm of their masses; ``None`` for 1 each.
        settings: of the kernel.
        hoods: of :func:`find_neighbourhoods`, for a single picture; without, every pair counts.
    """
    concentration, kernel, step_size = settings
    with torch.autocast(device_type=x_BND.device.type, enabled=False):
        if hoods:
            mean_BND = _means_by_neighbourhood(x_BND, log_mass_BN, settings, hoods)
        else:
            mean_BND = kernel_mean(x_BND, x_BND, concentration, kernel, log_mass_BN)
        x_BND = mean_BND if step_size == 1 else step_size * mean_BND + (1 - step_size) * x_BND
        return unit_vectors(x_BND, dim=2) if kernel == 'cosine' else x_BND


def _means_by_neighbourhood(
    x_BND: Tensor, log_mass_BN: Tensor | None, settings: KernelSettings, hoods: Sequence[Neighbourhood]
) -> Tensor:
    """Kernel means of every embedding over the keys of its neighbourhood alone."""
    means = []
    for hood in hoods:
        log_mass_BR = None if log_mass_BN is None else log_mass_BN.index_select(1, hood.key_R)
        if hood.log_scale_R is not None:
            log_scale_1R = hood.log_scale_R[None].to(x_BND)
            log_mass_BR = log_scale_1R if log_mass_BR is None else log_mass_BR + log_scale_1R
        key_BRD = x_BND.index_select(1, hood.key_R)
        # One copy less to keep for the backward pass.
        query_BQD = key_BRD[:, : len(hood.member_Q)] if hood.members_first else x_BND.index_select(1, hood.member_Q)
        means.append(kernel_mean(query_BQD, key_BRD, settings.concentration, settings.kernel, log_mass_BR))
    back_N = torch.cat([hood.member_Q for hood in hoods]).argsort()
    return torch.cat(means, dim=1).index_select(1, back_N)


@torch.no_grad()
def find_neighbourhoods(
    x_1ND: Tensor, log_mass_1N: Tensor | None, settings: KernelSettings, max_keys: int | None = None
) -> list[Neighbourhood]:
    """What :func:`shift` may restrict itself to without a mean changing by more than it is rounded; nothing for a picture
    of few embeddings.

    Args:
        x_1ND, log_mass_1N, settings: of :func:`shift`.
        max_keys: of :func:`~.neighbourhoods.neighbourhoods`. It does change means: see there.
    """
    if not is_crowd(x_1ND):
        return []
    x_ND = x_1ND[0]
    log_mass_N = x_ND.new_zeros(len(x_ND)) if log_mass_1N is None else log_mass_1N[0]
    counts_N = log_mass_N > _NO_MASS / 2
    if settings.kernel == 'cosine':
        counts_N &= x_ND.norm(dim=1) > SHORTEST  # on unit vectors both kernels are one, and only distances count
    if not counts_N.any():
        return []
    # An embedding attracts itself with its own mass: e^(-delta d^2 / 2) times all masses has to vanish beside it.
    share = torch.finfo(x_ND.dtype).eps if max_keys is None else _COARSE
    span = float(log_mass_N.logsumexp(0) - log_mass_N[counts_N].min()) - math.log(share)
    with torch.autocast(device_type=x_ND.device.type, enabled=False):
        return neighbourhoods(
            x_ND,
            settings.bandwidth,
            math.sqrt(2 * span / settings.concentration),
            counts_N=counts_N,
            log_mass_N=log_mass_N,
            max_keys=max_keys,
        )


def kernel_mean(
    query_BMD: Tensor, key_BND: Tensor, concentration: float, kernel: Kernel, log_mass_BN: Tensor | None = None
) -> Tensor:
    r"""Kernel-weighted means of the keys, :math:`\sum_j m_j K_{ij} x_j / \sum_j m_j K_{ij}`, (B, M, D), without the matrix K.

    This is fused attention with the keys as values. See :func:`mean_shift` for the kernels; memory is linear in M + N.
    """
    dims = key_BND.shape[2]
    value_BND = key_BND
    bias_BN = None if log_mass_BN is None else log_mass_BN / concentration
    if kernel == 'norm':
        # Only differences count: seen from the mean of the keys the products stay small, and so does their rounding.
        origin_B1D = key_BND.detach().mean(1, keepdim=True)
        query_BMD, key_BND = query_BMD - origin_B1D, key_BND - origin_B1D
        half_square_BN = key_BND.square().sum(2) / 2
        bias_BN = -half_square_BN if bias_BN is None else bias_BN - half_square_BN
    if bias_BN is not None:
        # What a key adds to its logits whatever the query: one more coordinate, which every query has at 1.
        query_BMD = F.pad(query_BMD, (0, 1), value=1.0)
        key_BND = torch.cat([key_BND, bias_BN[..., None]], dim=2)
    # The fused kernels ask for one width, a multiple of 4, and would otherwise step aside for one that makes the matrix.
    width = -(-key_BND.shape[2] // 4) * 4
    query_B1MW, key_B1NW = _filled(query_BMD, width), _filled(key_BND, width)
    # Where keys are their own values one copy of them is kept for the backward pass.
    value_B1NW = key_B1NW if value_BND is key_BND else _filled(value_BND, width)
    mean_B1MW = F.scaled_dot_product_attention(query_B1MW, key_B1NW, value_B1NW, scale=concentration)
    return mean_B1MW[:, 0, :, :dims]


def _filled(x_BND: Tensor, width: int) -> Tensor:
    """(B, 1, N, width): zeros after the last coordinate, and an axis for attention's heads."""
    missing = width - x_BND.shape[2]
    return (F.pad(x_BND, (0, missing)) if missing else x_BND)[:, None]
