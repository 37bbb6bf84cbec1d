"""Grouping around seeds, with the bandwidth that the network predicts for each pixel (Neven et al., CVPR 2019)."""

import math
from typing import Any, NamedTuple

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...structures import EmbeddingMargins, bandwidth_precision, check_finite, check_tensors
from .base import Grouper
from .rounds import Cells, Found, Spans, group_in_rounds

_BLOCK = 1 << 22
"""Distances between pixels and groups are computed in blocks of this many values: 16 MB."""


def group_by_seeds(
    x_ND: Tensor,
    *,
    seed_threshold: float = 0.5,
    mask_threshold: float = 0.5,
    max_groups: int | None = None,
    region_N: Tensor | None = None,
) -> Tensor:
    r"""Groups pixels around the seeds with the highest values (Neven et al. 2019, "Post-processing").

    The pixel with the highest seed value among those without a group starts one: with its embedding c and bandwidth b, the pixels
    without a group whose soft mask :math:`\exp(-\|e_i - c\|^2 \exp b)` exceeds ``mask_threshold`` join it. Repeated until no
    seed exceeds ``seed_threshold``. Pixels that are left join the group whose soft mask is largest there, however small; where no
    seed exceeds the threshold from the start, all pixels are one group.

    Many groups are found at a time, each from the pixels near its seed: see :func:`~.rounds.group_in_rounds`. Time: some visits
    of each pixel; pixels that are left are compared with all seeds of their region. Peak memory above the input: a few values for
    each pixel and for 65,536 pairs of a pixel and a seed (a million on a GPU), or for the pixels near one seed; blocks of 16 MB.

    Args:
        x_ND: (N, D) embedding, bandwidth :math:`\log(1 / 2\sigma^2)`, logit of the seed, D >= 3; computed in float32 or, for
            float64 input, in float64.
        seed_threshold: in (0, 1), of the sigmoid of the logit.
        mask_threshold: in (0, 1).
        max_groups: stop after this many groups of a region; if a seed above the threshold is left, all of its pixels without a
            group get 0. ``None`` for all.
        region_N: (N,) integers, such as classes: each region is grouped by itself. One region unless given.

    Returns:
        (N,) int64: group of each pixel, numbered 1, 2, .. region after region, in falling order of the seeds; among equal seeds
        the first pixel comes first.

    Raises:
        ValueError: if a threshold is not in (0, 1), the shape does not fit or a value is not finite.
        TypeError: if the embeddings are no tensor.

    Example:
        >>> x = torch.tensor([[0.0, 0.0, 2.0], [0.1, 0.0, 3.0], [5.0, 0.0, 1.0], [9.0, 0.0, -4.0]])  # the last one is no seed
        >>> group_by_seeds(x)
        tensor([1, 1, 2, 2])
    """
    check_tensors(embeddings=x_ND)
    if x_ND.dim() != 2 or x_ND.shape[1] < 3:
        raise ValueError(f'expected (N, D >= 3) values, embedding, bandwidth and seed, got {tuple(x_ND.shape)}')
    _check_thresholds(seed_threshold, mask_threshold)
    check_finite(x_ND)
    if x_ND.dtype != torch.float64:
        x_ND = x_ND.float()
    label_N = torch.zeros(len(x_ND), dtype=torch.long, device=x_ND.device)
    if len(x_ND) == 0:
        return label_N
    region_N = label_N if region_N is None else region_N
    least_seed, reach = math.log(seed_threshold / (1 - seed_threshold)), -math.log(mask_threshold)
    order_N = torch.argsort(x_ND[:, -1], descending=True, stable=True)
    founder_N = order_N[x_ND[order_N, -1] > least_seed]
    position_ND = x_ND[:, :-2]
    with torch.autocast(device_type=x_ND.device.type, enabled=False):
        # At infinity a seed would not be in its own group, and would never have one.
        precision_N = bandwidth_precision(x_ND[:, -2])
        founder_K = founder_N[:0]
        if len(founder_N):
            radius_N = (reach / precision_N).sqrt()
            cells = Cells(position_ND, region_N, radius_N[founder_N].median())
            find = _Masks(position_ND, precision_N, reach).groups
            label_N, founder_K = group_in_rounds(cells, position_ND, region_N, founder_N, radius_N, find, max_groups)
        return _join_left(label_N, position_ND, precision_N, region_N, founder_K, x_ND[:, -1] > least_seed)


class _Masks(NamedTuple):
    """Groups of pixels in the soft masks of seeds, as :func:`group_by_seeds` has them, for many seeds at once."""

    position_ND: Tensor
    precision_N: Tensor
    reach: float

    def groups(self, cells: Cells, pixel_F: Tensor, spans: Spans) -> Found:
        """The groups around founders; see :func:`~.rounds.group_in_rounds`."""
        precision_F = self.precision_N[pixel_F]

        def is_inside(x_QD: Tensor, center_QD: Tensor, founder_Q: Tensor) -> Tensor:
            return x_QD.sub_(center_QD).square_().sum(1) * precision_F.index_select(0, founder_Q) < self.reach

        pairs = cells.inside(self.position_ND[pixel_F], spans, is_inside)
        return Found(pairs, pairs)


def _join_left(
    label_N: Tensor, position_ND: Tensor, precision_N: Tensor, region_N: Tensor, founder_K: Tensor, seed_N: Tensor
) -> Tensor:
    """Assigns pixels without a group to the group of their region with the largest soft mask there. A region without a seed is
    one group; one with a seed that has no group stays as it is."""
    joined_N, region_K = torch.zeros_like(label_N), region_N[founder_K]
    found = 0
    for region in region_N.unique().tolist():
        pixel_M, group_K = ((regions == region).nonzero().squeeze(1) for regions in (region_N, region_K))
        label_M = label_N[pixel_M]
        left_M = label_M == 0
        if len(group_K) == 0:
            joined_N[pixel_M] = found + 1
            found += 1
            continue
        if not (left_M & seed_N[pixel_M]).any():
            label_M[left_M] = (
                _nearest_seed(pixel_M[left_M], position_ND, precision_N, founder_K[group_K]) + group_K[0] + 1
            )
        joined_N[pixel_M] = torch.where(label_M > 0, label_M - group_K[0] + found, 0)
        found += len(group_K)
    return joined_N


def _nearest_seed(pixel_M: Tensor, position_ND: Tensor, precision_N: Tensor, founder_K: Tensor) -> Tensor:
    """The seed, 0 .. K-1, whose soft mask is largest at each pixel, (M,)."""
    nearest = [pixel_M[:0]]
    for pixel_B in pixel_M.split(max(1, _BLOCK // len(founder_K))):
        # A product of matrices would lose small distances between large coordinates.
        distance_BK = torch.cdist(
            position_ND[pixel_B], position_ND[founder_K], compute_mode='donot_use_mm_for_euclid_dist'
        )
        nearest.append((distance_BK.square_() * precision_N[founder_K]).argmin(1))
    return torch.cat(nearest)


def _check_thresholds(seed_threshold: float, mask_threshold: float) -> None:
    for name, value in {'seed_threshold': seed_threshold, 'mask_threshold': mask_threshold}.items():
        if not 0 < value < 1:
            raise ValueError(f'expected {name} in (0, 1), got {value}')


@MODELS.register_module()
class SeedGrouping(Grouper):
    """Grouping around seeds (Neven et al. 2019); see :func:`group_by_seeds` for the algorithm. For networks trained with
    ``SoftMaskLoss``.

    Later steps compare embeddings without bandwidth and seed (:meth:`compared`).

    Args:
        seed_threshold: pixels whose seed does not exceed it start no group, in (0, 1).
        mask_threshold: of the soft mask around a seed, in (0, 1); the loss trains for 0.5. ``tools/tune.py`` chooses it for a
            trained network.
        **kwargs: ``class_agnostic``, ``background_groups``, ``connected``, ``min_size``, ``max_instances`` and
            ``max_groups`` of :class:`Grouper`.

    Example:
        >>> embeddings_Dhw = torch.zeros(4, 2, 4)  # x, y, bandwidth, seed
        >>> embeddings_Dhw[0, :, 2:], embeddings_Dhw[3] = 3, 1
        >>> SeedGrouping(class_agnostic=True)(embeddings_Dhw)
        tensor([[1, 1, 2, 2],
                [1, 1, 2, 2]])
    """

    def __init__(self, seed_threshold: float = 0.5, mask_threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_thresholds(seed_threshold, mask_threshold)
        self.seed_threshold, self.mask_threshold = seed_threshold, mask_threshold

    def group(self, x_ND: Tensor) -> Tensor:
        return self.group_regions(x_ND, torch.ones(len(x_ND), dtype=torch.long, device=x_ND.device))

    def group_regions(self, x_ND: Tensor, region_N: Tensor) -> Tensor:
        return group_by_seeds(
            x_ND,
            seed_threshold=self.seed_threshold,
            mask_threshold=self.mask_threshold,
            max_groups=self.max_groups,
            region_N=region_N,
        )

    def compared(self, embeddings_Dhw: Tensor) -> Tensor:
        """All values except bandwidth and seed, (D - 2, h, w)."""
        return embeddings_Dhw[:-2]

    def check_margins(self, margins: EmbeddingMargins) -> None:
        """Raises ValueError: a loss with margins trains no seeds, so the last two values of its embeddings are not
        bandwidth and seed."""
        raise ValueError(
            'SeedGrouping: expected a loss that trains bandwidths and seeds, SoftMaskLoss, got one that trains distances of '
            f'{margins.within:g} within and {margins.between:g} between objects'
        )
