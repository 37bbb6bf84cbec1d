"""InstanceNet's two ways to group pixels: center-fixed and center-shift (Gao 2020, figure 3 d and e)."""

import math
import warnings
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...structures import Distance, EmbeddingMargins, check_finite, check_tensors, unit_vectors
from .base import Grouper

_MAX_SHIFTS = 100
"""Shifting a flat kernel over a finite set converges in a handful of steps; rounding alone could make it cycle."""


def group_by_centers(
    x_ND: Tensor,
    threshold: float,
    *,
    shift: bool = True,
    norm: float = 2,
    distance: Distance = 'norm',
    max_groups: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Groups the pixels of one class by repeated thresholding around a center (Gao 2020, "Post processing").

    An untagged pixel is drawn at random; the untagged pixels whose embeddings lie within ``threshold`` of it,
    :math:`\|x_i - c\|_n \le t`, are one group. With ``shift``, the center moves to the mean of these pixels and the
    thresholding is repeated until the same pixels come out; then they are tagged. (The pixel drawn first may end
    outside its group; it then stays untagged and comes into a later one.) Repeated until every pixel is tagged.

    Time: one pass over the untagged pixels per shift. Peak memory above the input: a small multiple of N x D.

    Args:
        x_ND: (N, D) embeddings; computed in float32 or, for float64 input, in float64.
        threshold: radius of a group, positive.
        shift: center-shift (True) or center-fixed (False).
        norm: order of the norm of ``distance='norm'``.
        distance: 'norm' for :math:`\|x - c\|_n`, 'cosine' for :math:`1 - \cos(x, c)`, which suits embeddings on a sphere.
            Embeddings without a direction (shorter than 1e-12) are alike, and at right angles to all others.
        max_groups: stop after this many groups; untagged pixels then get 0. ``None`` for all.
        generator: source of the random draws, on the CPU, so that every device draws alike.

    Returns:
        (N,) int64: group of each pixel, numbered 1, 2, .. in the order in which they were found.

    Raises:
        ValueError: if the threshold is not positive or an embedding is not finite.
        TypeError: if the embeddings are no tensor.

    Example:
        >>> x = torch.tensor([[0.0], [0.1], [5.0]])
        >>> group_by_centers(x, 1.0).unique().numel()
        2
    """
    check_tensors(embeddings=x_ND)
    if x_ND.dim() != 2:
        raise ValueError(f'expected embeddings (N, D), got {tuple(x_ND.shape)}')
    if not threshold > 0:
        raise ValueError(f'expected a threshold > 0 in units of the embedding, got {threshold}')
    check_finite(x_ND)
    if x_ND.dtype != torch.float64:
        x_ND = x_ND.float()
    count = len(x_ND)
    label_N = torch.zeros(count, dtype=torch.long, device=x_ND.device)
    # Walking through one random order and skipping tagged pixels draws uniformly among the untagged ones.
    if distance == 'cosine':
        x_ND = _directions(x_ND)
    order_N = torch.randperm(count, generator=generator).to(x_ND.device)
    pixel_M, x_MD = order_N, x_ND[order_N]
    group = 0
    with torch.autocast(device_type=x_ND.device.type, enabled=False):
        while len(pixel_M) and group != max_groups:
            inside_M = _distance_to(x_MD, x_MD[0], norm, distance) <= threshold
            if shift:
                for _ in range(_MAX_SHIFTS):
                    moved_M = _distance_to(x_MD, x_MD[inside_M].mean(0), norm, distance) <= threshold
                    # For norms other than 2 there may be no embedding near the mean of a ring: keep the last members.
                    if torch.equal(moved_M, inside_M) or not moved_M.any():
                        break
                    inside_M = moved_M
            group += 1
            label_N[pixel_M[inside_M]] = group
            pixel_M, x_MD = pixel_M[~inside_M], x_MD[~inside_M]
    return label_N


def _directions(x_ND: Tensor) -> Tensor:
    """Unit vectors; a zero vector becomes the unit vector of one additional axis."""
    unit_ND = unit_vectors(x_ND, dim=1)
    lost_N = (unit_ND == 0).all(1)
    return torch.cat([unit_ND, lost_N[:, None].to(unit_ND)], dim=1) if lost_N.any() else unit_ND


def _distance_to(x_ND: Tensor, center_D: Tensor, norm: float, distance: Distance) -> Tensor:
    """Distance of each embedding to a centre, (N,): the norm of the difference, or 1 - cosine of a unit vector and the
    centre."""
    if distance == 'cosine':
        return 1 - x_ND @ unit_vectors(center_D, dim=0)
    return torch.linalg.vector_norm(x_ND - center_D, ord=norm, dim=1)


@MODELS.register_module()
class CenterGrouping(Grouper):
    """Center-fixed and center-shift grouping (Gao 2020); see :func:`group_by_centers` for the algorithm.

    Args:
        mode: 'shift' (center-shift) or 'fixed' (center-fixed).
        threshold: radius of a group; 1.2 is the paper's best. ``tools/tune.py`` chooses it for a trained network. A warning is
            given where it cannot be right for the margins of the loss (see :meth:`check_margins`).
        norm: order of the norm, as in the loss.
        distance: 'norm', or 'cosine' for embeddings trained on a sphere.
        seed: of the random draws; the same image always gives the same groups.
        **kwargs: ``class_agnostic``, ``background_groups``, ``connected``, ``min_size``, ``max_instances`` and
            ``max_groups`` of :class:`Grouper`.

    Example:
        >>> embeddings_Dhw = torch.zeros(4, 2, 4)
        >>> embeddings_Dhw[:, :, 2:] = 3
        >>> CenterGrouping(threshold=1.2, class_agnostic=True)(embeddings_Dhw)
        tensor([[1, 1, 2, 2],
                [1, 1, 2, 2]])
    """

    def __init__(
        self,
        mode: str = 'shift',
        threshold: float = 1.2,
        norm: float = 2,
        distance: Distance = 'norm',
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if mode not in ('fixed', 'shift'):
            raise ValueError(f"expected mode 'fixed' or 'shift', got {mode!r}")
        if not threshold > 0:
            raise ValueError(f'expected a threshold > 0 in units of the embedding, got {threshold}')
        if distance not in ('norm', 'cosine'):
            raise ValueError(f"expected distance 'norm' or 'cosine', got {distance!r}")
        self.mode, self.threshold, self.distance, self.seed = mode, threshold, distance, seed
        self.norm, self.only_directions = (norm, False) if distance == 'norm' else (2.0, True)

    def group(self, x_ND: Tensor) -> Tensor:
        return group_by_centers(
            x_ND,
            self.threshold,
            shift=self.mode == 'shift',
            norm=self.norm,
            distance=self.distance,
            max_groups=self.max_groups,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def check_margins(self, margins: EmbeddingMargins) -> None:
        """Warns if the threshold can split or merge objects even at a loss of zero.

        The pixels of an object then lie within ``margins.within`` of its mean, and the means of two objects at least
        ``margins.between`` apart. Around any pixel of an object a threshold of 2 within takes in all of its pixels; one below
        between - 2 within takes in none of another object. With such a threshold both modes find exactly the objects. On the
        sphere the same holds of angles. The paper recommends the lower part of this range, 2 pull_margin < threshold <
        push_margin / 2 (Gao 2020, "Post processing"). Where a loss is left, pixels lie farther from their mean.
        """
        if margins.distance != self.distance:
            return
        if self.distance == 'norm':
            low, high = 2 * margins.within, margins.between - 2 * margins.within
            formula = '(2 pull_margin, 2 push_margin - 2 pull_margin)'
        else:
            # The triangle inequality holds of angles, not of 1 - cos.
            within, between = (math.acos(max(-1.0, 1 - value)) for value in (margins.within, margins.between))
            low, high = (1 - math.cos(min(math.pi, max(0.0, angle))) for angle in (2 * within, between - 2 * within))
            formula = '(twice the angle within an instance, the angle between two less that)'
        if not low < self.threshold < high:
            warnings.warn(
                f'CenterGrouping: threshold {self.threshold} lies outside ({low:g}, {high:g}) = {formula} of the loss: even at a '
                f'loss of zero it can {"split" if self.threshold <= low else "merge"} objects. tools/tune.py finds a threshold '
                'for a trained network',
                stacklevel=2,
            )
