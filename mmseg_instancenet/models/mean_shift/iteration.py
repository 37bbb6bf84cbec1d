"""Blurring mean shift as attention (Kong & Fowlkes 2018, equation 3).

Shapes besides those of ``structures``: Q queries among P keys (in blurring the same embeddings), W width of attention.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...structures import unit_vectors

Kernel = Literal['cosine', 'norm']

NO_MASS = -1e30
"""Logarithm of a mass of 0: finite, so that 0 times it is 0, in the backward pass and in kernels that split a product."""


GRADIENT_SPREAD = 500.0
GROUP_SPREAD = 3000.0
"""Greatest diagonal, in bandwidths, of the box around the embeddings of an image for the kernel 'norm' in float32.

With a gradient, and without. The logits are differences of squares of coordinates, so that their rounding errors grow with the
square of the spread. Measured (D = 2, two iterations, against float64): at the first limit gradients are wrong by 3 per cent, at
the second by a multiple, and embeddings by 0.03 bandwidths; at three times the second groups merge and split at random."""


class KernelSettings(NamedTuple):
    """Settings of an iteration of :func:`mean_shift`; explained there."""

    concentration: float
    kernel: Kernel = 'cosine'
    step_size: float = 1.0

    def check(self) -> None:
        """Raises ValueError for invalid settings."""
        if not self.concentration > 0:
            raise ValueError(f'expected a concentration > 0, got {self.concentration}')
        if not 0 < self.step_size <= 1:
            raise ValueError(f'expected a step_size in (0, 1], got {self.step_size}')
        if self.kernel not in ('cosine', 'norm'):
            raise ValueError(f"expected kernel 'cosine' or 'norm', got {self.kernel!r}")

    def resolved(self, x_NPD: Tensor, limit: float, counts_NP: Tensor | None = None) -> Tensor:
        """The embeddings in a precision in which rounding errors do not decide which of them attract one another: float64
        where they spread over more bandwidths than float32 resolves.

        Args:
            x_NPD: (N, P, D) of :func:`prepare`; NaN and infinity pass, for those who compare the embeddings to refuse.
            limit: in bandwidths, for float32; float64 has 23,000 times as much.
            counts_NP: (N, P) bool, at least one of each image: the embeddings that attract others; all unless given.

        Raises:
            ValueError: if float64 does not resolve the spread either.
        """
        if self.kernel != 'norm' or x_NPD.shape[1] == 0:
            return x_NPD
        kept_NPD = x_NPD.detach()
        if counts_NP is not None:  # the others count as the first that does
            first_N1 = counts_NP.int().argmax(1, keepdim=True)[..., None].expand(-1, 1, x_NPD.shape[2])
            kept_NPD = kept_NPD.where(counts_NP[..., None], kept_NPD.gather(1, first_N1))
        spread = float((kept_NPD.amax(1) - kept_NPD.amin(1)).norm(dim=1).max()) / self.bandwidth
        if spread <= limit or not math.isfinite(spread):
            return x_NPD
        limit *= math.sqrt(torch.finfo(torch.float).eps / torch.finfo(torch.double).eps)
        if spread > limit:
            raise ValueError(
                f"kernel 'norm': expected embeddings that spread over at most {limit:.3g} bandwidths, got {spread:.3g} at "
                f'concentration {self.concentration:g}, a bandwidth of {self.bandwidth:g}: rounding would decide which of them '
                'attract one another. The training has diverged (lower the learning rate), or the concentration is too high'
            )
        return x_NPD.double()

    @property
    def bandwidth(self) -> float:
        r"""Bandwidth of the kernel, :math:`1 / \sqrt\delta`, in units of the embedding."""
        return self.concentration**-0.5


def mean_shift(
    x_NPD: Tensor,
    concentration: float,
    *,
    kernel: Kernel = 'cosine',
    step_size: float = 1.0,
    mass_NP: Tensor | None = None,
) -> Iterator[Tensor]:
    r"""Yields the embeddings after 0, 1, 2, .. iterations of blurring mean shift (endless).

    With the von Mises-Fisher kernel (``'cosine'``), on unit vectors in the rows of X (Kong & Fowlkes 2018, equation 3):

    .. math:: K = \exp(\delta X X^T), \quad X \leftarrow \eta \, \mathrm{diag}(K 1)^{-1} K X + (1 - \eta) X,

    rows back to unit length. With the Gaussian kernel (``'norm'``), :math:`K_{ij} = \exp(-\delta/2 \, \|x_i - x_j\|^2)` and
    lengths are kept; on unit vectors both kernels are the same, of bandwidth :math:`1 / \sqrt\delta`. K is computed anew in
    each iteration. An iteration is attention with the embeddings as queries, keys and values. PyTorch's fused attention
    computes it over all pairs without storing K: memory is linear in the pixels, the maximum is subtracted before
    exponentials, and all iterations are differentiable. It runs in float32 (float64 for float64 input), also under autocast.

    Time: P^2 D operations for each image and iteration. Peak memory above the input, forward and backward: about ten times
    the embeddings for each iteration kept for backward.

    Args:
        x_NPD: (N, P, D) embeddings of P pixels of N images; need not have unit length.
        concentration: delta > 0, in units of 1 / embedding^2.
        kernel: 'cosine' or 'norm'.
        step_size: eta in (0, 1].
        mass_NP: (N, P) >= 0, how much each pixel counts in the kernel: 0 for pixels that attract none (padding, ignored
            ones; they are moved all the same). All pixels count 1 unless given.

    Yields:
        (N, P, D) embeddings, of unit length for ``'cosine'``; the first are the input's.

    Raises:
        ValueError: at the first iteration, if a shape or a setting does not fit, or if the embeddings of an image spread over
            more bandwidths of the kernel ``'norm'`` than float64 resolves, millions. From 500 bandwidths with a gradient, and
            3000 without, the iterations are computed in float64, and so are the embeddings that they give.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]])
        >>> iterations = mean_shift(x, concentration=100)
        >>> before, after = next(iterations), next(iterations)
        >>> bool((after[0, 0] - after[0, 1]).norm() < (before[0, 0] - before[0, 1]).norm() / 3)
        True
    """
    if x_NPD.dim() != 3 or not x_NPD.is_floating_point():
        raise ValueError(f'expected floating point embeddings (N, P, D), got {tuple(x_NPD.shape)} {x_NPD.dtype}')
    if mass_NP is not None and mass_NP.shape != x_NPD.shape[:2]:
        raise ValueError(f'expected masses {tuple(x_NPD.shape[:2])}, one a pixel, got {tuple(mass_NP.shape)}')
    if mass_NP is not None and not bool((mass_NP >= 0).all()):
        raise ValueError('expected masses >= 0, got a negative one or NaN')
    settings = KernelSettings(concentration, kernel, step_size)
    settings.check()
    x_NPD = prepare(x_NPD, kernel)
    # If no pixel of an image has mass, all of them get it: attention on a GPU has no gradient if every logit is out of range.
    counts_NP = None if mass_NP is None else (mass_NP > 0) | ~(mass_NP > 0).any(1, keepdim=True)
    x_NPD = settings.resolved(x_NPD, GRADIENT_SPREAD if x_NPD.requires_grad else GROUP_SPREAD, counts_NP)
    log_mass_NP = None
    if mass_NP is not None and counts_NP is not None:
        log_mass_NP = torch.where(counts_NP, mass_NP.to(x_NPD).clamp(min=torch.finfo(x_NPD.dtype).tiny).log(), NO_MASS)
    while True:
        yield x_NPD
        x_NPD = shift(x_NPD, x_NPD, log_mass_NP, settings)


def prepare(x: Tensor, kernel: Kernel) -> Tensor:
    """Prepares embeddings (.., D) for iterations: float32 or float64, and unit length for the cosine kernel."""
    if x.dtype != torch.float64:
        x = x.float()
    return unit_vectors(x, dim=-1) if kernel == 'cosine' else x


def shift(query_NQD: Tensor, key_NPD: Tensor, log_mass_NP: Tensor | None, settings: KernelSettings) -> Tensor:
    """Computes one iteration of mean shift: the queries (N, Q, D) after it.

    Args:
        query_NQD, key_NPD: of :func:`prepare`; the keys attract the queries.
        log_mass_NP: logarithm of the keys' masses; ``None`` for 1 each.
        settings: of the kernel.
    """
    concentration, kernel, step_size = settings
    with torch.autocast(device_type=key_NPD.device.type, enabled=False):
        mean_NQD = kernel_mean(query_NQD, key_NPD, concentration, kernel, log_mass_NP)
        x_NQD = mean_NQD if step_size == 1 else step_size * mean_NQD + (1 - step_size) * query_NQD
        return unit_vectors(x_NQD, dim=2) if kernel == 'cosine' else x_NQD


def kernel_mean(
    query_NQD: Tensor, key_NPD: Tensor, concentration: float, kernel: Kernel, log_mass_NP: Tensor | None = None
) -> Tensor:
    r"""Kernel-weighted means of the keys, :math:`\sum_j m_j K_{ij} x_j / \sum_j m_j K_{ij}`, (N, Q, D), without storing K.

    It is fused attention with the keys as values. See :func:`mean_shift` for the kernels; memory is linear in P + Q.
    """
    dims = key_NPD.shape[2]
    value_NPD = key_NPD
    bias_NP = None if log_mass_NP is None else log_mass_NP / concentration
    if kernel == 'norm':
        # Only differences matter: relative to the mean of the keys the products stay small, and so do their rounding errors.
        origin_N1D = _mean(key_NPD.detach(), log_mass_NP)
        query_NQD, key_NPD = query_NQD - origin_N1D, key_NPD - origin_N1D
        half_square_NP = key_NPD.square().sum(2) / 2
        bias_NP = -half_square_NP if bias_NP is None else bias_NP - half_square_NP
    # The fused kernels require one width, a multiple of 4, and contiguous rows, unlike those of a transposed map; otherwise
    # PyTorch falls back to a kernel that stores the matrix.
    width = -(-(dims + (bias_NP is not None)) // 4) * 4
    query_N1QW, key_N1PW = _filled(query_NQD, width), _filled(key_NPD, width)
    if bias_NP is not None:
        # The term of the logits that does not depend on the query: one more coordinate, which is 1 in every query.
        query_N1QW[..., dims] = 1.0
        key_N1PW[:, 0, :, dims] = bias_NP
    # If the values are the keys, only one copy of them is kept for the backward pass.
    value_N1PW = key_N1PW if value_NPD is key_NPD else _filled(value_NPD, width)
    mean_N1QW = F.scaled_dot_product_attention(query_N1QW, key_N1PW, value_N1PW, scale=concentration)
    return mean_N1QW[:, 0, :, :dims]


def _mean(x_NPD: Tensor, log_mass_NP: Tensor | None) -> Tensor:
    """Mean of the embeddings that have a mass, however far away the others are: (N, 1, D)."""
    if log_mass_NP is None:
        return x_NPD.mean(1, keepdim=True)
    counts_NP1 = (log_mass_NP > NO_MASS / 2)[..., None]
    return x_NPD.where(counts_NP1, 0).sum(1, keepdim=True) / counts_NP1.sum(1, keepdim=True).clamp(min=1)


def _filled(x_NPD: Tensor, width: int) -> Tensor:
    """Extends coordinates to W values with zeros and adds an axis for attention's heads: (N, 1, P, W), contiguous."""
    missing = width - x_NPD.shape[2]
    return (F.pad(x_NPD, (0, missing)) if missing else x_NPD).contiguous()[:, None]
