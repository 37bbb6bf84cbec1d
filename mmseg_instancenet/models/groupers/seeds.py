"""Grouping around seeds, with the bandwidth that the network predicts for each pixel (Neven et al., CVPR 2019)."""

import math
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...structures import EmbeddingMargins, bandwidth_precision, check_finite, check_tensors
from .base import Grouper

_BLOCK = 1 << 22
"""Distances between pixels and groups are computed in blocks of this many values: 16 MB."""


def group_by_seeds(
    x_ND: Tensor, *, seed_threshold: float = 0.5, mask_threshold: float = 0.5, max_groups: int | None = None
) -> Tensor:
    r"""Groups pixels around the seeds with the highest values (Neven et al. 2019, "Post-processing").

    The pixel with the highest seed value among those without a group starts one: with its embedding c and bandwidth b, the pixels
    without a group whose soft mask :math:`\exp(-\|e_i - c\|^2 \exp b)` exceeds ``mask_threshold`` join it. Repeated until no
    seed exceeds ``seed_threshold``. Pixels that are left join the group whose soft mask is largest there, however small; where no
    seed exceeds the threshold from the start, all pixels are one group.

    Time: one pass over the pixels without a group for each group. Peak memory above the input: a small multiple of N x D, and
    some blocks of 16 MB.

    Args:
        x_ND: (N, D) embedding, bandwidth :math:`\log(1 / 2\sigma^2)`, logit of the seed, D >= 3; computed in float32 or, for
            float64 input, in float64.
        seed_threshold: in (0, 1), of the sigmoid of the logit.
        mask_threshold: in (0, 1).
        max_groups: stop after this many groups; if a seed above the threshold is left, all pixels without a group get 0. ``None``
            for all.

    Returns:
        (N,) int64: group of each pixel, numbered 1, 2, .. in falling order of the seeds; among equal seeds the first pixel comes
        first.

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
    pixel_M = torch.argsort(x_ND[:, -1], descending=True, stable=True)
    x_MD = x_ND[pixel_M]
    founders: list[Tensor] = []  # (D,) each
    with torch.autocast(device_type=x_ND.device.type, enabled=False):
        # From here on 1 / (2 sigma^2). At infinity a seed would not be in its own group, and the loop would never end.
        x_MD[:, -2] = bandwidth_precision(x_MD[:, -2])
        least_seed, reach = math.log(seed_threshold / (1 - seed_threshold)), -math.log(mask_threshold)
        while len(pixel_M) and float(x_MD[0, -1]) > least_seed:
            if len(founders) == max_groups:
                return label_N
            founders.append(x_MD[0].clone())  # a view would keep all pixels that are left, once for each group
            inside_M = (x_MD[:, :-2] - x_MD[0, :-2]).square().sum(1) * x_MD[0, -2] < reach
            label_N[pixel_M[inside_M]] = len(founders)
            pixel_M, x_MD = pixel_M[~inside_M], x_MD[~inside_M]
        if not founders:
            return torch.ones_like(label_N)
        x_KD = torch.stack(founders)
        for block in torch.arange(len(pixel_M), device=x_ND.device).split(max(1, _BLOCK // len(x_KD))):
            # A product of matrices would lose small distances between large coordinates.
            distance_BK = torch.cdist(
                x_MD[block, :-2], x_KD[:, :-2], compute_mode='donot_use_mm_for_euclid_dist'
            ).square_()
            label_N[pixel_M[block]] = (distance_BK * x_KD[:, -2]).argmin(1) + 1
    return label_N


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
        return group_by_seeds(
            x_ND,
            seed_threshold=self.seed_threshold,
            mask_threshold=self.mask_threshold,
            max_groups=self.max_groups,
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
