"""InstanceNet's two ways to group pixels: center-fixed and center-shift (Gao 2020, figure 3 d and e)."""

import math
import warnings
from typing import Any, NamedTuple

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...structures import Distance, EmbeddingMargins, check_finite, check_tensors, unit_vectors
from .base import Grouper
from .rounds import Cells, Found, Pairs, Spans, group_in_rounds

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
    region_N: Tensor | None = None,
) -> Tensor:
    r"""Groups the pixels of one class by repeated thresholding around a center (Gao 2020, "Post processing").

    An untagged pixel is drawn at random; the untagged pixels whose embeddings lie within ``threshold`` of it,
    :math:`\|x_i - c\|_n \le t`, are one group. With ``shift``, the center moves to the mean of these pixels and the
    thresholding is repeated until the same pixels come out; then they are tagged. (The pixel drawn first may end
    outside its group; it then stays untagged and comes into a later one.) Repeated until every pixel is tagged.

    Many groups are found at a time, each from the pixels near its centre, as if they came one after the other: see
    :func:`~.rounds.group_in_rounds`. Time: some visits of each pixel. Peak memory above the input: a few values for each pixel
    and for 262,144 pairs of a pixel and a centre (a million on a GPU), or for the pixels near one centre.

    Args:
        x_ND: (N, D) embeddings; computed in float32 or, for float64 input, in float64.
        threshold: radius of a group, positive.
        shift: center-shift (True) or center-fixed (False).
        norm: order of the norm of ``distance='norm'``.
        distance: 'norm' for :math:`\|x - c\|_n`, 'cosine' for :math:`1 - \cos(x, c)`, which suits embeddings on a sphere.
            Embeddings without a direction (shorter than 1e-12) are alike, and at right angles to all others.
        max_groups: stop after this many groups of a region; untagged pixels then get 0. ``None`` for all.
        generator: source of the random draws, on the CPU, so that every device draws alike.
        region_N: (N,) integers, such as classes: pixels of different regions are never in one group. Each region is drawn from as
            if it were alone. One region unless given.

    Returns:
        (N,) int64: group of each pixel, numbered 1, 2, .. region after region, in the order in which they were drawn.

    Raises:
        ValueError: if the threshold is not positive, or an embedding, or for 'cosine' its length, is not finite.
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
    if len(x_ND) == 0:
        return torch.zeros(0, dtype=torch.long, device=x_ND.device)
    if distance == 'cosine':
        x_ND = _directions(x_ND)
        check_finite(x_ND, 'lengths of embeddings')
    region_N = x_ND.new_zeros(len(x_ND), dtype=torch.long) if region_N is None else region_N
    # On the unit sphere 1 - cos <= t within a distance of sqrt(2 t); the product of unit vectors is exact to 1e-6.
    radius = threshold if distance == 'norm' else math.sqrt(2 * threshold + 1e-6)
    balls = _Balls(x_ND, region_N, threshold, radius, norm, distance, moves=shift)
    with torch.autocast(device_type=x_ND.device.type, enabled=False):
        cells, radius_N = Cells(x_ND, region_N, radius), x_ND.new_full((1,), radius).expand(len(x_ND))
        order_N = _draw(region_N, generator)
        return group_in_rounds(cells, x_ND, region_N, order_N, radius_N, balls, max_groups)[0]


def _directions(x_ND: Tensor) -> Tensor:
    """Unit vectors; a zero vector becomes the unit vector of one additional axis."""
    unit_ND = unit_vectors(x_ND, dim=1)
    lost_N = (unit_ND == 0).all(1)
    return torch.cat([unit_ND, lost_N[:, None].to(unit_ND)], dim=1) if lost_N.any() else unit_ND


def _draw(region_N: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws the pixels of each region in a random order, the regions in turn: (N,). Walking through one random order and skipping
    tagged pixels draws uniformly among the untagged ones."""
    sorted_N, pixel_N = region_N.sort(stable=True)
    counts = sorted_N.unique_consecutive(return_counts=True)[1].tolist()
    state = None if generator is None else generator.get_state()
    orders = []
    for count in counts:
        if generator is not None and state is not None:
            generator.set_state(state)  # each region as if it were alone
        orders.append(torch.randperm(count, generator=generator))
    if len(counts) == 1:
        return orders[0].to(region_N.device)
    turn_N = torch.cat([torch.arange(count) for count in counts]).argsort(stable=True)
    start_N = torch.tensor(counts).cumsum(0).sub_(torch.tensor(counts)).repeat_interleave(torch.tensor(counts))
    return pixel_N[(torch.cat(orders) + start_N)[turn_N].to(region_N.device)]


class _Balls(NamedTuple):
    """Groups of pixels within a threshold of a centre, as :func:`group_by_centers` has them, for many founders at once."""

    x_ND: Tensor
    region_N: Tensor
    threshold: float
    radius: float
    norm: float
    distance: Distance
    moves: bool

    def first_pixels(self, cells: Cells, pixel_F: Tensor, spans: Spans) -> Pairs:
        return cells.inside(self.x_ND[pixel_F], spans, self._is_inside)

    def groups(self, cells: Cells, pixel_F: Tensor, spans: Spans) -> Found:
        pairs = self.first_pixels(cells, pixel_F, spans)
        if not self.moves:
            return Found(pairs, pairs)
        # Two sets of pixels are the same if the sums of their keys are: an integer sum depends on no order.
        key_M = _keys(len(cells.pixel_M), pixel_F.device)
        founder_A, sum_A = torch.arange(len(pixel_F), device=pixel_F.device), _sums(pairs, key_M, len(pixel_F))
        region_F = self.region_N[pixel_F]
        members, touched = [], [pairs]
        for _ in range(_MAX_SHIFTS):
            size_A = torch.bincount(pairs.founder_Q, minlength=len(founder_A))
            center_AD = _sums(pairs, cells.x_MD, len(founder_A)) / size_A[:, None]
            if self.distance == 'cosine':
                center_AD = unit_vectors(center_AD, dim=1)
            region_A, radius_A = region_F[founder_A], center_AD.new_full((len(center_AD),), self.radius)
            moved = cells.inside(center_AD, cells.near(center_AD, region_A, radius_A), self._is_inside)
            moved_sum_A = _sums(moved, key_M, len(founder_A))
            # For norms other than 2 there may be no embedding near the mean of a ring: keep the last members.
            going_A = (moved_sum_A != sum_A) & (torch.bincount(moved.founder_Q, minlength=len(founder_A)) > 0)
            members.append(pairs.where(~going_A.index_select(0, pairs.founder_Q)).of(founder_A))
            going = going_A.nonzero().squeeze(1)
            if len(going) == 0:
                break
            moved = moved.where(going_A.index_select(0, moved.founder_Q))
            touched.append(moved.of(founder_A))
            pairs = moved.of(going_A.cumsum(0) - 1)
            founder_A, sum_A = founder_A[going], moved_sum_A[going]
        else:
            members.append(pairs.of(founder_A))
        return Found(Pairs.joined(members), Pairs.joined(touched))

    def _is_inside(self, x_QD: Tensor, center_QD: Tensor, _: Tensor) -> Tensor:
        """Whether each pixel lies within the threshold of its centre: by the norm of the difference, or by 1 - cosine of unit
        vectors."""
        if self.distance == 'cosine':
            return 1 - (x_QD * center_QD).sum(1) <= self.threshold
        return torch.linalg.vector_norm(x_QD.sub_(center_QD), ord=self.norm, dim=1) <= self.threshold


def _keys(count: int, device: torch.device) -> Tensor:
    """Random integers, (count,); the same for the same count, of 62 bits so that two sums hardly ever agree by chance."""
    return torch.randint(1 << 62, (count,), generator=torch.Generator(device).manual_seed(0), device=device)


def _sums(pairs: Pairs, value_M: Tensor, count: int) -> Tensor:
    """Sums of the values of each founder's pixels, (count, ..)."""
    sum_F = value_M.new_zeros(count, *value_M.shape[1:])
    return sum_F.index_add_(0, pairs.founder_Q, value_M.index_select(0, pairs.place_Q))


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
        return self.group_regions(x_ND, torch.ones(len(x_ND), dtype=torch.long, device=x_ND.device))

    def group_regions(self, x_ND: Tensor, region_N: Tensor) -> Tensor:
        return group_by_centers(
            x_ND,
            self.threshold,
            shift=self.mode == 'shift',
            norm=self.norm,
            distance=self.distance,
            max_groups=self.max_groups,
            generator=torch.Generator().manual_seed(self.seed),
            region_N=region_N,
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
