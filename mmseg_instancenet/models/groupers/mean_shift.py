"""Grouping by blurring mean shift, in training and in testing (Kong & Fowlkes 2018).

Shapes besides those of ``structures``: M embeddings that are left after merging, R heavy ones among them, B batches of
L others, Q keys of a batch.
"""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor

from ...structures import EmbeddingMargins, check_finite, check_tensors
from ..mean_shift.cores import along_random_direction, merge_cores
from ..mean_shift.iteration import GROUP_SPREAD, NO_MASS, Kernel, KernelSettings, mean_shift, prepare, shift
from ..mean_shift.modes import merge_cells, merge_modes, number_groups
from .base import Grouper

_FAR_REACH = 0.01
"""Groups merge within the iterations on an image if another group attracts a pixel more than 1 % as strongly as its own."""

_LARGE = 4096
"""From this number of embeddings on, dense clusters are merged before the first iteration."""

_EXACT_PRODUCTS = 1 << 27
"""Up to this number of pairs times D, all embeddings attract those that are left in the first iteration: up to 35 ms on one
thread."""

_FEW = 64
"""Up to this number, merging embeddings takes longer than their iterations."""

_BATCH = 4096
_HEAVY = 1024
"""Of more than three batches of embeddings, the heaviest attract all others, and each of these only those of its batch."""


@torch.no_grad()
def group_by_mean_shift(
    x_PD: Tensor,
    concentration: float,
    *,
    kernel: Kernel = 'cosine',
    step_size: float = 1.0,
    max_loops: int = 20,
    tolerance: float = 0.01,
) -> Tensor:
    r"""Clusters embeddings: blurring mean shift until convergence, then merging of modes closer than the bandwidth.

    Iterations of :func:`mean_shift` run until no embedding moves by more than ``tolerance`` bandwidths, or until ``max_loops``
    are done: the kernel is positive everywhere, so blurring would go on merging groups, ever more slowly, without
    end. Then embeddings closer together than the bandwidth :math:`1 / \sqrt\delta` are one group (:func:`merge_modes`).
    Every pixel is assigned; there is no limit to the number of groups; the order of the pixels does not matter.

    Three shortcuts save time:

    - From 4096 embeddings on, dense clusters that lie apart are merged before the first iteration (:func:`merge_cores`). Where
      few are left, their members still attract the others one by one in this iteration.
    - Embeddings that an iteration has brought into one cell of a grid, an eighth of a bandwidth wide, go on as one with the mass
      of all (:func:`merge_cells`). The number of such steps, and of tests of the tolerance, grows with the logarithm of the
      iterations: on a GPU each of them waits for the device.
    - Of more than 12,288 embeddings that are left then, the 1024 heaviest attract all others, and each of these only those of
      its batch of 4096, with the mass of all batches.

    Up to 12,288 embeddings that are left, every iteration is the exact one of weighted embeddings: as if each merged embedding
    were there as often as its mass says. :func:`merge_cores` and :func:`merge_cells` bound the error of merging.

    Time: M^2 D operations an iteration for M embeddings that are left, at most 5120 M D; and P K D for K cores. Peak memory above
    the input (measured): three to five times the input in float32.

    Args:
        x_PD: (P, D) embeddings, P >= 1.
        concentration, kernel, step_size: of :func:`mean_shift`.
        max_loops: largest number of iterations, at least 1; the paper runs 10 to 16 on images.
        tolerance: in bandwidths; tested after iterations 1, 2, 3, 4, 6, 9, 13 and 19.

    Returns:
        (P,) int64: group of each pixel, numbered 1, 2, .. in order of the first member.

    Raises:
        ValueError: if a setting does not fit, an embedding or its length is not finite, or the embeddings spread over more
            bandwidths of the kernel ``'norm'`` than float64 resolves, millions.
        TypeError: if the embeddings are no tensor.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> group_by_mean_shift(x, concentration=100)
        tensor([1, 1, 2])
    """
    check_tensors(embeddings=x_PD)
    if x_PD.dim() != 2 or len(x_PD) == 0:
        raise ValueError(f'expected embeddings (P, D) with P >= 1, got {tuple(x_PD.shape)}')
    _check_loops(max_loops, tolerance)
    settings = KernelSettings(concentration, kernel, step_size)
    settings.check()
    check_finite(x_PD.float().norm(dim=1))  # a length that overflows leaves no direction
    # A cell's diagonal is at most one bandwidth in any number of dimensions: merge_modes would join its embeddings.
    cell = settings.bandwidth / max(8, x_PD.shape[1] ** 0.5)
    with torch.autocast(x_PD.device.type, enabled=False):
        x_MD = all_PD = settings.resolved(prepare(x_PD, kernel)[None], GROUP_SPREAD)[0]
        mass_M, merged_P = x_MD.new_ones(len(x_MD)), torch.arange(len(x_MD), device=x_MD.device)
        if len(x_MD) >= _LARGE:
            # Means of unit vectors are shorter, so that a product with one is the mean of the products with its members.
            x_MD, mass_M, merged_P = merge_cores(x_MD, settings)
        next_merging = 1
        for loop in range(1, max_loops + 1):
            before_MD = x_MD
            if loop == 1 and len(x_MD) * all_PD.numel() <= _EXACT_PRODUCTS:
                x_MD = shift(x_MD[None], all_PD[None], None, settings)[0]
            else:
                x_MD = _iteration(x_MD, mass_M, settings)
            if loop < next_merging:
                continue
            next_merging = loop + max(1, loop // 2)  # after iterations 1, 2, 3, 4, 6, 9, 13 and 19
            if float((x_MD - before_MD).norm(dim=1).max()) <= tolerance * settings.bandwidth:
                break
            if len(x_MD) > _FEW:
                x_MD, mass_M, cell_M = merge_cells(x_MD, mass_M, cell)
                merged_P = cell_M[merged_P]
        return number_groups(merge_modes(x_MD, settings.bandwidth)[merged_P])


def _iteration(x_MD: Tensor, mass_M: Tensor, settings: KernelSettings) -> Tensor:
    """One iteration of mean shift, (M, D): over all pairs, or in batches of keys where there are very many."""
    log_mass_M = mass_M.log()
    if len(x_MD) <= 3 * _BATCH:
        return shift(x_MD[None], x_MD[None], log_mass_M[None], settings)[0]
    count = len(x_MD) - _HEAVY
    batches = -(-count // _BATCH)
    shifted_MD = torch.empty_like(x_MD)
    heavy_R = mass_M.argsort(descending=True, stable=True)[:_HEAVY]  # topk takes any of equal masses
    shifted_MD[heavy_R] = shift(x_MD[None, heavy_R], x_MD[None], log_mass_M[None], settings)[0]
    # The others are dealt out in turn, in their order along a random direction: each batch gets its share of every cluster.
    place_M = along_random_direction(x_MD).index_fill_(0, heavy_R, torch.inf)
    light_L = place_M.argsort()[:count]
    light_BL = F.pad(light_L, (0, -count % batches), value=-1).view(-1, batches).T
    log_mass_BL = torch.where(light_BL < 0, NO_MASS, log_mass_M[light_BL] + math.log(batches))
    key_BQD = torch.cat([x_MD[light_BL], x_MD[heavy_R].expand(batches, -1, -1)], dim=1)
    log_mass_BQ = torch.cat([log_mass_BL, log_mass_M[heavy_R].expand(batches, -1)], dim=1)
    shifted_BLD = shift(x_MD[light_BL], key_BQD, log_mass_BQ, settings)
    shifted_MD[light_L] = shifted_BLD.transpose(0, 1).flatten(0, 1)[:count]
    return shifted_MD


def _check_loops(max_loops: int, tolerance: float) -> None:
    if max_loops < 1:
        raise ValueError(f'expected max_loops >= 1, got {max_loops}')
    if tolerance < 0:
        raise ValueError(f'expected a tolerance >= 0 bandwidths, got {tolerance}')


def attraction_ratio(concentration: float, kernel: Kernel, margins: EmbeddingMargins, size_ratio: float) -> float:
    r"""Attraction of pixels by another group, relative to that by their own group.

    .. math:: r \, e^{-\delta (1 - \cos\theta)} \quad\text{or}\quad r \, e^{-\delta g^2 / 2}

    for groups as far apart as the loss makes them (an angle :math:`\theta`, or a gap g between pixels), r the ratio of their
    sizes. Where it is not small, blurring merges the two. 0 where the distance of the loss gives no bound on the
    kernel's (a norm, and a kernel that depends on directions only).

    Example:
        >>> margins = EmbeddingMargins('cosine', 0.0, 1.0)  # a margin of 0.5: right angles
        >>> round(attraction_ratio(6.0, 'cosine', margins, size_ratio=95), 2)
        0.24
    """
    if margins.distance == 'cosine':
        return size_ratio * math.exp(-concentration * margins.between)
    if kernel == 'cosine':
        return 0.0
    gap = max(0.0, margins.between - 2 * margins.within)
    return size_ratio * math.exp(-concentration / 2 * gap**2)


@MODELS.register_module()
class MeanShiftGrouping(Grouper):
    r"""Mean-shift grouping (Kong & Fowlkes 2018), with one config for training and for testing.

    - :func:`mean_shift` computes the iterations in training: ``RecurrentLoss`` takes the embeddings after each from
      :meth:`loops`, and the network is trained through them. Every pair of pixels counts.
    - :func:`group_by_mean_shift` computes the groups at test time, as a model's ``grouper``. It iterates until
      convergence, and merges clusters and embeddings that have come together.

    Args:
        concentration: delta. 100 is the authors' code for digits and proposals (kernel bandwidth 0.1), 25 for VOC (0.2). The
            paper's text gives 3 / (1 - alpha), that is 6 for a margin of 0.5, at which a large group attracts small
            ones across the margin and absorbs them within a few iterations: there is a warning (see :func:`attraction_ratio`).
        kernel: 'cosine' for embeddings on a sphere (``SphericalPairLoss``), 'norm' for others (``DiscriminativeLoss``).
        step_size: eta in (0, 1]; 1 is the paper's.
        max_loops: largest number of iterations at test time.
        tolerance: iterations at test time stop once no embedding moves by more than this many bandwidths.
        **kwargs: ``class_agnostic``, ``background_groups``, ``connected``, ``min_size`` and ``max_instances`` of
            :class:`Grouper`.

    Example:
        >>> embeddings_Dhw = torch.zeros(2, 2, 4)
        >>> embeddings_Dhw[0, :, :2], embeddings_Dhw[1, :, 2:] = 1, 1
        >>> MeanShiftGrouping(class_agnostic=True)(embeddings_Dhw)
        tensor([[1, 1, 2, 2],
                [1, 1, 2, 2]])
    """

    def __init__(
        self,
        concentration: float = 100.0,
        kernel: Kernel = 'cosine',
        step_size: float = 1.0,
        max_loops: int = 20,
        tolerance: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.only_directions = kernel == 'cosine'
        self.kernel_settings = KernelSettings(concentration, kernel, step_size)
        self.kernel_settings.check()
        _check_loops(max_loops, tolerance)
        self.max_loops, self.tolerance = max_loops, tolerance
        self._margins: EmbeddingMargins | None = None
        self._warned = False

    def group(self, x_ND: Tensor) -> Tensor:
        # The smallest group that is kept bounds the ratio of sizes; the sizes of the groups are not known yet.
        self.warn_if_groups_merge(len(x_ND) / self.min_size)
        return group_by_mean_shift(
            x_ND, **self.kernel_settings._asdict(), max_loops=self.max_loops, tolerance=self.tolerance
        )

    def loops(self, embeddings_NDHW: Tensor, region_NHW: Tensor) -> Iterator[Tensor]:
        """Yields the embedding maps (N, D, H, W) after 0, 1, 2, .. iterations (endless).

        Args:
            embeddings_NDHW: (N, D, H, W) floating point.
            region_NHW: (N, H, W) integers: pixels of an image with the same number above 0 attract one another; pixels at 0
                attract none, and their own result has no meaning.
        """
        shape = embeddings_NDHW.shape
        x_NPD = embeddings_NDHW.flatten(2).transpose(1, 2)
        region_NP = region_NHW.flatten(1)
        if int(region_NP.max()) <= 1:
            every_pixel = bool((region_NP == 1).all())
            shifted = mean_shift(x_NPD, mass_NP=None if every_pixel else region_NP, **self.kernel_settings._asdict())
        else:
            shifted = self._shift_regions(x_NPD, region_NP)
        for shifted_NPD in shifted:
            yield shifted_NPD.transpose(1, 2).reshape(shape)

    def _shift_regions(self, x_NPD: Tensor, region_NP: Tensor) -> Iterator[Tensor]:
        """Runs one mean shift for each region of each image."""
        indices = [
            (region_NP[image] == region).nonzero().squeeze(1) + image * region_NP.shape[1]
            for image in range(len(x_NPD))
            for region in region_NP[image].unique().tolist()
            if region > 0
        ]
        x_QD, index_Q = x_NPD.flatten(0, 1), torch.cat(indices)
        parts = [mean_shift(x_QD[index][None], **self.kernel_settings._asdict()) for index in indices]
        for of_parts in zip(*parts, strict=True):
            shifted_QD = torch.cat(of_parts, dim=1)[0]
            yield x_QD.to(shifted_QD).index_put((index_Q,), shifted_QD).view(x_NPD.shape)

    def check_margins(self, margins: EmbeddingMargins) -> None:
        self._margins = margins

    def reaches_far(self, size_ratio: float) -> bool:
        """Whether :meth:`warn_if_groups_merge` would warn of this ratio of sizes."""
        return not self._warned and self._reach(size_ratio) > _FAR_REACH

    def _reach(self, size_ratio: float) -> float:
        """Computes :func:`attraction_ratio` for the margins of the loss; 0 without margins."""
        if self._margins is None:
            return 0.0
        return attraction_ratio(
            self.kernel_settings.concentration, self.kernel_settings.kernel, self._margins, size_ratio
        )

    def warn_if_groups_merge(self, size_ratio: float) -> None:
        """Warns once if groups at the distance that the loss requires still attract each other."""
        if self._margins is not None and self.reaches_far(size_ratio):
            self._warned = True
            concentration, reach = self.kernel_settings.concentration, self._reach(size_ratio)
            warnings.warn(
                f'MeanShiftGrouping: at concentration {concentration:g} a group {size_ratio:.0f} times as large as another '
                f'attracts the pixels of the other {reach:.2g} times as strongly as that one does, although the loss holds '
                f'them apart by {self._margins.between:g} ({self._margins.distance}); above {_FAR_REACH:g} small groups '
                'merge into larger ones within a few iterations. Raise the concentration',
                stacklevel=2,
            )
