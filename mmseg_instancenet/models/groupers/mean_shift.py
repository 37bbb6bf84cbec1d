"""Blurring mean shift as attention (Kong & Fowlkes 2018, equation 3)."""

import math
from collections.abc import Iterator
from typing import Literal, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..unit_vectors import unit_vectors

Kernel = Literal['cosine', 'norm']

_NO_MASS = -1e30
"""Logarithm of the mass of a pixel that does not count: finite, so that 0 times it is 0 in the backward pass."""


def mean_shift(
    x_BND: Tensor,
    concentration: float,
    *,
    kernel: Kernel = 'cosine',
    step_size: float = 1.0,
    mass_BN: Optional[Tensor] = None,
    even_mass: bool = False,
) -> Iterator[Tensor]:
    r"""The embeddings before the first loop of blurring mean shift, after it, after the second, and so on without end.

    With the von Mises-Fisher kernel (``'cosine'``), on unit vectors in the rows of X (Kong & Fowlkes 2018, equation 3):

    .. math:: K = \exp(\delta X X^T), \quad X \leftarrow \eta \, \mathrm{diag}(K 1)^{-1} K X + (1 - \eta) X,

    rows back to unit length. With the Gaussian kernel (``'norm'``), :math:`K_{ij} = \exp(-\delta/2 \, \|x_i - x_j\|^2)` and
    lengths are kept; on unit vectors both kernels are one, of bandwidth :math:`1 / \sqrt\delta`. K is made anew in
    each loop. One loop is attention with the embeddings as queries, keys and values, and is computed by PyTorch's
    fused attention, which never makes K: memory linear in the pixels, the maximum subtracted before exponentials,
    differentiable through all loops. Computed in float32 (float64 for float64 input), also under autocast.

    Peak memory above the input, forward and backward: about ten times the embeddings for each loop kept for backward.

    Args:
        x_BND: (B, N, D) embeddings of N pixels of B pictures; need not have unit length.
        concentration: delta > 0, in units of 1 / embedding^2.
        kernel: 'cosine' or 'norm'.
        step_size: eta in (0, 1].
        mass_BN: (B, N) >= 0, how much each pixel counts in the kernel: 0 for pixels that attract none (padding, ignored
            ones; they are moved all the same). All pixels count 1 unless given.
        even_mass: divide the mass of each pixel by the density around it, :math:`\sum_j m_j K_{ij} / K_{ii}`, in every
            loop: a large group then attracts no more than a small one. Twice the time. No gradient flows through the
            density.

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
    check_kernel(concentration, kernel, step_size)
    if x_BND.dtype != torch.float64:
        x_BND = x_BND.float()
    log_mass_BN = None if mass_BN is None else torch.where(mass_BN > 0, mass_BN.to(x_BND).log(), _NO_MASS)
    if kernel == 'cosine':
        x_BND = unit_vectors(x_BND, dim=2)
    while True:
        yield x_BND
        with torch.autocast(device_type=x_BND.device.type, enabled=False):
            evened_BN = log_mass_BN
            if even_mass:
                log_density_BN = _log_density(x_BND.detach(), concentration, kernel, log_mass_BN)
                evened_BN = -log_density_BN if log_mass_BN is None else log_mass_BN - log_density_BN
            mean_BND = kernel_mean(x_BND, x_BND, x_BND, concentration, kernel, evened_BN)
            x_BND = mean_BND if step_size == 1 else step_size * mean_BND + (1 - step_size) * x_BND
            if kernel == 'cosine':
                x_BND = unit_vectors(x_BND, dim=2)


def check_kernel(concentration: float, kernel: Kernel, step_size: float) -> None:
    """Raises ValueError unless the settings are those of a kernel of :func:`mean_shift`."""
    if not concentration > 0:
        raise ValueError(f'expected a concentration > 0, got {concentration}')
    if not 0 < step_size <= 1:
        raise ValueError(f'expected a step_size in (0, 1], got {step_size}')
    if kernel not in ('cosine', 'norm'):
        raise ValueError(f"expected kernel 'cosine' or 'norm', got {kernel!r}")


def kernel_mean(
    query_BMD: Tensor,
    key_BND: Tensor,
    value_BNE: Tensor,
    concentration: float,
    kernel: Kernel,
    log_mass_BN: Optional[Tensor] = None,
) -> Tensor:
    r"""Kernel-weighted means :math:`\sum_j m_j K_{ij} v_j / \sum_j m_j K_{ij}`, (B, M, E), without the kernel matrix.

    See :func:`mean_shift` for the kernels; memory is linear in M + N.
    """
    if kernel == 'norm':
        query_BMD, key_BND = _from_mean(key_BND, query_BMD, key_BND)
    bias_BN1 = _key_bias(key_BND, concentration, kernel, log_mass_BN)
    if bias_BN1 is not None:
        # One more coordinate of the keys that every query has at 1.
        query_BMD = torch.cat([query_BMD, query_BMD.new_ones(*query_BMD.shape[:2], 1)], dim=2)
        key_BND = torch.cat([key_BND, bias_BN1], dim=2)
    return _attention(query_BMD, key_BND, value_BNE, concentration)


def _from_mean(key_BND: Tensor, *x_BND: Tensor) -> list[Tensor]:
    """Only differences count: seen from the mean of the keys the products stay small, and so does their rounding."""
    origin_B1D = key_BND.detach().mean(1, keepdim=True)
    return [x - origin_B1D for x in x_BND]


def _key_bias(key_BND: Tensor, concentration: float, kernel: Kernel, log_mass_BN: Optional[Tensor]) -> Optional[Tensor]:
    """What a key adds to its logits whatever the query, over the concentration: (B, N, 1), or None for nothing."""
    bias_BN = None if log_mass_BN is None else log_mass_BN / concentration
    if kernel == 'norm':
        half_square_BN = key_BND.square().sum(2) / 2
        bias_BN = -half_square_BN if bias_BN is None else bias_BN - half_square_BN
    return None if bias_BN is None else bias_BN[..., None]


def _attention(query_BMD: Tensor, key_BND: Tensor, value_BNE: Tensor, concentration: float) -> Tensor:
    """Fused attention. Queries, keys and values are filled up with zeros to one width, a multiple of 4: the fused kernels
    ask for that and would otherwise step aside for one that makes the matrix."""
    width = -(-max(key_BND.shape[2], value_BNE.shape[2]) // 4) * 4
    query_B1MW, key_B1NW, value_B1NW = (
        F.pad(x, (0, width - x.shape[2])).unsqueeze(1) for x in (query_BMD, key_BND, value_BNE)
    )
    mean_B1MW = F.scaled_dot_product_attention(query_B1MW, key_B1NW, value_B1NW, scale=concentration)
    return mean_B1MW[:, 0, :, : value_BNE.shape[2]]


def _log_density(x_BND: Tensor, concentration: float, kernel: Kernel, log_mass_BN: Optional[Tensor]) -> Tensor:
    r"""Logarithm of :math:`\rho_i = \sum_j m_j K_{ij} / K_{ii}`, (B, N), from one more pass of the same attention.

    Attention divides by the density and does not tell it. So one key more is added, to which every pixel has
    :math:`K = e^r K_{ii}`; the share of the attention that it receives is :math:`a = e^r / (e^r + \rho)`. With r half the
    logarithm of N, neither a nor 1 - a comes near rounding for densities from 1 to N.
    """
    batch, count, _ = x_BND.shape
    if kernel == 'norm':
        (x_BND,) = _from_mean(x_BND, x_BND)
    own_BN1 = x_BND.square().sum(2, keepdim=True) / (2 if kernel == 'norm' else 1)  # logarithm of K_ii over delta
    bias_BN1 = _key_bias(x_BND, concentration, kernel, log_mass_BN)
    zero_BN1 = torch.zeros_like(own_BN1)
    query_BNC = torch.cat([x_BND, zero_BN1 + 1, own_BN1], dim=2)
    key_BNC = torch.cat([x_BND, zero_BN1 if bias_BN1 is None else bias_BN1, zero_BN1], dim=2)
    log_share = math.log(count) / 2
    added_B1C = F.pad(x_BND.new_tensor([log_share / concentration, 1]), (x_BND.shape[2], 0)).expand(batch, 1, -1)
    is_added_BN1 = F.pad(zero_BN1, (0, 0, 0, 1), value=1.0)
    share_BN = _attention(query_BNC, torch.cat([key_BNC, added_B1C], dim=1), is_added_BN1, concentration).squeeze(2)
    tiny = torch.finfo(share_BN.dtype).tiny
    return log_share + (1 - share_BN).clamp(min=tiny).log() - share_BN.clamp(min=tiny).log()
