"""Synthetic pixels for groupers, the same on every machine.

Shapes: N pixels, D values of the embedding, K groups.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MIXED_SHARE = 0.1
"""Part of the pixels that lie between two groups, as at a boundary."""

NOISE = 0.1
"""Distance of a pixel to the centre of its group on the unit sphere (on trained digits the median is 0.07)."""

_SIZE_RANGE = 100.0
"""Expected size of the largest object over that of the smallest."""

_LARGEST_COSINE = 0.5
_DRAWS = 1000
_REPULSION_STEPS = 300


class MixedGroups(NamedTuple):
    """Synthetic embeddings and their true groups.

    x_ND: float32.
    group_N: int64; 0 = background, 1 .. = objects. A pixel between two groups belongs to the nearer one.
    class_N: int64; 0 = background, 1 .. = the object's class.
    is_mixed_N: bool, pixels between two groups.
    """

    x_ND: Tensor
    group_N: Tensor
    class_N: Tensor
    is_mixed_N: Tensor


def mixed_groups(
    num_pixels: int, dims: int, num_groups: int, seed: int, *, mixed_share: float = MIXED_SHARE, num_classes: int = 1
) -> MixedGroups:
    """Draws unit vectors in groups of very unequal sizes; half of the pixels are background (before some are mixed).

    The sizes of the objects are log-uniform over 1:100; a tenth of the pixels are mixed linearly from two groups, the share
    uniform in (0, 1); noise of 0.1 / sqrt(D) a coordinate is added, and lengths are brought back to 1. The pixels come in
    a random order. For centres see :func:`spread_centers`.

    Args:
        num_pixels: N, at least one for each group.
        dims: D >= 2.
        num_groups: K >= 2, the background counted: for 30 objects 31.
        seed: of the draws, which are made on the CPU.
        mixed_share: part of the pixels that are mixed.
        num_classes: classes that the objects have, in turn.

    Raises:
        ValueError: if a number is too small.

    Example:
        >>> data = mixed_groups(1000, dims=4, num_groups=3, seed=0)
        >>> data.x_ND.shape, int((data.group_N[~data.is_mixed_N] == 0).sum()), int(data.is_mixed_N.sum())
        (torch.Size([1000, 4]), 451, 100)
    """
    generator = torch.Generator().manual_seed(seed)
    center_KD = spread_centers(num_groups, dims, generator)
    data = _mix(center_KD, num_pixels, NOISE, mixed_share, num_classes, generator)
    return data._replace(x_ND=F.normalize(data.x_ND, dim=1))


def margin_groups(
    num_pixels: int,
    dims: int,
    num_groups: int,
    seed: int,
    *,
    mixed_share: float = MIXED_SHARE,
    num_classes: int = 1,
    within: float = 0.2,
    between: float = 6.0,
) -> MixedGroups:
    """As :func:`mixed_groups`, but with the geometry that ``DiscriminativeLoss`` with its default margins produces.

    Centres lie at least ``between`` apart, pixels about ``within`` from theirs, and lengths are left as they are.

    Example:
        >>> data = margin_groups(1000, dims=4, num_groups=3, seed=0)
        >>> bool(data.x_ND.norm(dim=1).max() > 2)
        True
    """
    generator = torch.Generator().manual_seed(seed)
    center_KD = spread_centers(num_groups, dims, generator)
    nearest = float(torch.pdist(center_KD).min())
    return _mix(center_KD * (between / nearest), num_pixels, within, mixed_share, num_classes, generator)


def noisy_groups(num_pixels: int, dims: int, num_groups: int, seed: int, *, noise: float = 0.02) -> MixedGroups:
    """Unit vectors in groups of about equal sizes without a background and without mixed pixels: easy data, on which groupers
    from seeds are at their best.

    Args:
        num_pixels, dims, num_groups, seed: of :func:`mixed_groups`.
        noise: standard deviation of each coordinate.

    Example:
        >>> data = noisy_groups(1000, dims=16, num_groups=20, seed=0)
        >>> int(data.group_N.max()), bool(data.is_mixed_N.any())
        (20, False)
    """
    generator = torch.Generator().manual_seed(seed)
    center_KD = spread_centers(num_groups, dims, generator)
    group_N = torch.randint(num_groups, (num_pixels,), generator=generator)
    x_ND = center_KD[group_N] + noise * torch.randn(num_pixels, dims, generator=generator)
    is_mixed_N = torch.zeros(num_pixels, dtype=torch.bool)
    return MixedGroups(F.normalize(x_ND, dim=1), group_N + 1, torch.ones_like(group_N), is_mixed_N)


def spread_centers(num_groups: int, dims: int, generator: torch.Generator) -> Tensor:
    """Unit vectors (K, D) with pairwise cosines of at most 0.5, or as far apart as repulsion moves them.

    They are drawn one after the other, and one that comes too near an earlier one is drawn again. Where there is no room
    for so many (30 in D = 4), they are drawn once and pushed apart.

    Raises:
        ValueError: if K < 2 or D < 2.

    Example:
        >>> center = spread_centers(30, 16, torch.Generator().manual_seed(0))
        >>> bool((center @ center.T - torch.eye(30)).max() <= 0.5)
        True
    """
    if num_groups < 2 or dims < 2:
        raise ValueError(f'expected at least 2 groups and D >= 2, got {num_groups} groups and D = {dims}')
    center_KD = torch.empty(0, dims)
    for _ in range(_DRAWS):
        candidate_1D = F.normalize(torch.randn(1, dims, generator=generator), dim=1)
        if not (center_KD @ candidate_1D.T > _LARGEST_COSINE).any():
            center_KD = torch.cat([center_KD, candidate_1D])
        if len(center_KD) == num_groups:
            return center_KD
    return _repel(F.normalize(torch.randn(num_groups, dims, generator=generator, dtype=torch.float64), dim=1)).float()


def _repel(center_KD: Tensor) -> Tensor:
    """Moves unit vectors apart by repulsion with a range that shrinks until only the nearest pair matters."""
    others_KK = ~torch.eye(len(center_KD), dtype=torch.bool)
    for step in range(_REPULSION_STEPS):
        progress = step / _REPULSION_STEPS
        cosine_KK = (center_KD @ center_KD.T).masked_fill(~others_KK, -1)
        force_KK = torch.softmax((5 + 45 * progress) * cosine_KK, dim=1)
        center_KD = F.normalize(center_KD - 0.3 * (1 - progress) * force_KK @ center_KD, dim=1)
    return center_KD


def _mix(
    center_KD: Tensor,
    num_pixels: int,
    noise: float,
    mixed_share: float,
    num_classes: int,
    generator: torch.Generator,
) -> MixedGroups:
    num_groups, dims = center_KD.shape
    group_N = _draw_groups(num_pixels, num_groups, generator)
    # A pixel's neighbour across the boundary is drawn like any pixel, but from another group.
    is_mixed_N = torch.zeros(num_pixels, dtype=torch.bool)
    is_mixed_N[torch.randperm(num_pixels, generator=generator)[: round(mixed_share * num_pixels)]] = True
    other_N = group_N[torch.randint(num_pixels, (num_pixels,), generator=generator)]
    other_N = torch.where(other_N == group_N, (group_N + 1) % num_groups, other_N)
    share_N = torch.rand(num_pixels, generator=generator)
    share_N = torch.where(is_mixed_N, share_N, 0)
    x_ND = torch.lerp(center_KD[group_N], center_KD[other_N], share_N[:, None])
    x_ND = x_ND + noise / dims**0.5 * torch.randn(num_pixels, dims, generator=generator)
    group_N = torch.where(share_N > 0.5, other_N, group_N)
    class_N = torch.where(group_N == 0, 0, (group_N - 1) % num_classes + 1)
    return MixedGroups(x_ND, group_N, class_N, is_mixed_N)


def _draw_groups(num_pixels: int, num_groups: int, generator: torch.Generator) -> Tensor:
    """Random labels: half background, objects of log-uniform sizes and at least one pixel each, in random order: (N,)."""
    if num_pixels < 2 * num_groups:
        raise ValueError(f'expected at least {2 * num_groups} pixels for {num_groups} groups, got {num_pixels}')
    foreground = num_pixels // 2
    size_K = _SIZE_RANGE ** torch.rand(num_groups - 1, generator=generator, dtype=torch.float64)
    # Where each object ends, rounded: all together they fill the foreground.
    end_K = 1 + torch.arange(num_groups - 1) + (size_K.cumsum(0) / size_K.sum() * (foreground - num_groups + 1)).round()
    count_K = torch.diff(end_K, prepend=torch.zeros(1)).long()
    count_K[0] -= int(count_K.sum()) - foreground
    every_K = torch.cat([torch.tensor([num_pixels - foreground]), count_K])
    group_N = torch.repeat_interleave(torch.arange(num_groups), every_K)
    return group_N[torch.randperm(num_pixels, generator=generator)]
