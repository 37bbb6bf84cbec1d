"""Groups around pixels that found them in a given order, many groups at a time: what center grouping and grouping around seeds
have in common.

Shapes: N pixels, M of them sorted by cells or without a group, D embedding values, E of them for cells, F founders of a round, Q
pairs of a founder and a pixel, S rows of cells near a founder, K groups, R regions.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_MOST_CELLS = 256
"""Cells along an axis; embeddings that spread farther get wider cells."""

_WIDEST = 1e30
"""Of a cell: a quotient of two infinities is no number."""

_MOST_FOUNDERS = 1 << 10
"""Founders of a round at most."""

_FRONT = 1 << 13
"""Founders of a round are among the first that remain, this many."""

_FEWEST_PAIRS = 1 << 14
_MOST_PAIRS = {'cpu': 1 << 16, 'cuda': 1 << 20}
"""A round has as many founders as have about as many pixels near them as are without a group, within these limits: with more
founders most would lie in each other's groups; a GPU has room for more."""


class Pairs(NamedTuple):
    """Pairs of a founder, 0 .. F-1, and a pixel, by its place among the sorted ones of :class:`Cells`: (Q,) each, sorted by
    founder."""

    founder_Q: Tensor
    place_Q: Tensor

    def where(self, keep_Q: Tensor) -> 'Pairs':
        """The pairs that are kept."""
        index_Q = keep_Q.nonzero().squeeze(1)
        return Pairs(self.founder_Q.index_select(0, index_Q), self.place_Q.index_select(0, index_Q))

    def of(self, founder_F: Tensor) -> 'Pairs':
        """The same pairs with other numbers of their founders."""
        return Pairs(founder_F.index_select(0, self.founder_Q), self.place_Q)

    @classmethod
    def joined(cls, parts: list['Pairs']) -> 'Pairs':
        """All pairs of several sets; no longer sorted."""
        return parts[0] if len(parts) == 1 else cls(*(torch.cat(values) for values in zip(*parts, strict=True)))


class Spans(NamedTuple):
    """The sorted pixels near each of F centres: first place and number of those in each row of cells, (F, S) each."""

    first_FS: Tensor
    count_FS: Tensor


IsInside = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From embeddings of pixels (Q, D), which may be changed, those of their centres (Q, D) and their founders (Q,) to (Q,) bool."""


class Cells:
    """Pixels sorted by square cells of the two embedding values that spread most, to find those near a centre.

    No value differs by more than the norm of the difference, of any order: the pixels within a radius of a centre lie in the
    cells within that radius of it.

    Args:
        x_ND: (N, D) float, N >= 1.
        region_N: (N,) int64 >= 0; pixels of another region than that of the centre are not near.
        width: of a cell, in units of the embedding; wider where there would be too many cells.
    """

    def __init__(self, x_ND: Tensor, region_N: Tensor, width: Tensor | float) -> None:
        low_D, high_D = x_ND.amin(0), x_ND.amax(0)
        spread_E, self._axis_E = (high_D - low_D).topk(min(2, x_ND.shape[1]))
        self._low_E = low_D[self._axis_E]
        self._width_E = (spread_E / _MOST_CELLS).clamp(min=width).clamp(max=_WIDEST)
        self._last_E = (spread_E / self._width_E).floor().long()
        cell_NE = self._position(x_ND).floor().long()
        self.code_M, self.pixel_M = torch.sort(self._code(region_N, cell_NE[:, 0], cell_NE[:, -1]))
        self.x_MD = x_ND.index_select(0, self.pixel_M)
        self.is_left_M = torch.ones_like(self.pixel_M, dtype=torch.bool)
        self.left = len(self.pixel_M)

    def _position(self, x_ND: Tensor) -> Tensor:
        return (x_ND.index_select(1, self._axis_E) - self._low_E) / self._width_E

    def _code(self, region: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """One number for a cell of a region; cells of one row follow each other."""
        code = region * (self._last_E[0] + 1) + row
        return code if len(self._last_E) == 1 else code * (self._last_E[1] + 1) + column

    def leave_out(self, place_Q: Tensor) -> bool:
        """Leaves pixels out from now on; whether the others have new places."""
        self.is_left_M.index_fill_(0, place_Q, False)
        self.left -= len(place_Q)
        if self.left > len(self.pixel_M) // 2:
            return False
        index_M = self.is_left_M.nonzero().squeeze(1)
        self.code_M, self.pixel_M, self.x_MD, self.is_left_M = (
            values.index_select(0, index_M) for values in (self.code_M, self.pixel_M, self.x_MD, self.is_left_M)
        )
        return True

    def near(self, center_FD: Tensor, region_F: Tensor, radius_F: Tensor) -> Spans:
        """Finds the pixels near centres: all within their radius, and some more."""
        position_FE = self._position(center_FD)
        reach_FE = radius_F[:, None] * 1.001 / self._width_E + 1e-4  # more, for rounding
        low_FE = (position_FE - reach_FE).floor().clamp_(min=0).long()
        high_FE = torch.minimum((position_FE + reach_FE).floor(), self._last_E).long()
        row_FS = low_FE[:, :1]
        if len(self._last_E) > 1:
            rows = int((high_FE[:, 0] - low_FE[:, 0]).max()) + 1
            row_FS = row_FS + torch.arange(rows, device=row_FS.device)
        low_FS, high_FS = (self._code(region_F[:, None], row_FS, cell_FE[:, -1:]) for cell_FE in (low_FE, high_FE))
        if len(self._last_E) == 1:
            high_FS = self._code(region_F[:, None], high_FE, high_FE)
        first_FS = torch.searchsorted(self.code_M, low_FS)
        count_FS = torch.searchsorted(self.code_M, high_FS, right=True) - first_FS
        return Spans(first_FS, count_FS.clamp_(min=0).mul_(row_FS <= high_FE[:, :1]))

    def inside(self, center_FD: Tensor, spans: Spans, is_inside: IsInside) -> Pairs:
        """Pairs of centres and those of the pixels near them that are inside."""
        first_S, count_S = (values_FS.reshape(-1) for values_FS in spans)
        place_Q = (first_S - count_S.cumsum(0) + count_S).repeat_interleave(count_S)
        place_Q += torch.arange(len(place_Q), device=place_Q.device)
        founder_F = torch.arange(len(center_FD), device=place_Q.device)
        founder_Q = founder_F.repeat_interleave(spans.count_FS.sum(1), output_size=len(place_Q))
        x_QD, center_QD = self.x_MD.index_select(0, place_Q), center_FD.index_select(0, founder_Q)
        is_left_Q = self.is_left_M.index_select(0, place_Q)
        return Pairs(founder_Q, place_Q).where(is_inside(x_QD, center_QD, founder_Q).logical_and_(is_left_Q))


class Found(NamedTuple):
    """Groups of the founders of a round: the pixels in each, and all pixels on which it depends."""

    members: Pairs
    touched: Pairs


Find = Callable[[Cells, Tensor, Spans], Found]
"""From the pixels without a group, the founders (F,) and the pixels near them to their groups."""


def group_in_rounds(
    cells: Cells,
    x_ND: Tensor,
    region_N: Tensor,
    founder_N: Tensor,
    radius_N: Tensor,
    find: Find,
    max_groups: int | None,
) -> tuple[Tensor, Tensor]:
    """Groups pixels around founders: one after the other, the first of ``founder_N`` that has no group founds the next one.

    Each round finds the groups of the next founders without a group, all from the same pixels. A group is accepted if no founder
    before it has touched a pixel that it depends on; the founders of the others are in a later round again, in front of those
    that follow them. Groups whose pixels follow from the founder alone are therefore the same as if the founders had come one
    after the other. Groups that move are the same as if the founders had come in the order in which they were accepted. This is
    their order in ``founder_N`` unless a founder that waited comes, in its later round, to pixels that it had not touched before
    and that a founder behind it has taken by then.

    Time: linear in the pixels near founders, some hundred operations a round. Peak memory: a few values for each pixel and
    for at most ``_MOST_PAIRS`` pairs, or for the pixels near one founder.

    Args:
        cells: of the pixels.
        x_ND: (N, D) float.
        region_N: (N,) int64, 0 .. R-1.
        founder_N: (<= N,) int64, pixels that may found a group, in their order.
        radius_N: (N,) float, of the group around a pixel in its first step; at most the embedding's spread.
        find: the groups of founders.
        max_groups: of a region: the first ones stay.

    Returns:
        (N,) int64, 0 = none, groups numbered 1, 2, .. region after region, in the order of their founders; and the founder of
        each group, (K,).
    """
    device = x_ND.device
    most = _MOST_PAIRS[device.type if device.type in _MOST_PAIRS else 'cuda']
    label_N = torch.zeros_like(region_N)
    order_M = torch.arange(len(founder_N), device=device)
    order_K = order_M[:0]
    claim_M = torch.full_like(cells.pixel_M, _MOST_FOUNDERS)  # the first founder of a round that has touched a pixel
    while len(order_M):
        front_M = order_M[:_FRONT]
        front_M = front_M[label_N.index_select(0, founder_N.index_select(0, front_M)) == 0]
        order_M = torch.cat([front_M, order_M[_FRONT:]])
        if len(front_M) == 0:
            continue
        next_F = front_M[:_MOST_FOUNDERS]
        pixel_F = founder_N[next_F]
        spans = cells.near(x_ND[pixel_F], region_N[pixel_F], radius_N[pixel_F])
        pairs_F = spans.count_FS.sum(1).cumsum(0)
        count = max(1, int((pairs_F <= min(max(cells.left, _FEWEST_PAIRS), most)).sum()))
        next_F, spans = next_F[:count], Spans(*(values_FS[:count] for values_FS in spans))
        members, touched = find(cells, pixel_F[:count], spans)
        own_F = torch.arange(count, device=device)
        claim_M.scatter_reduce_(0, touched.place_Q, touched.founder_Q, 'amin')
        first_F = own_F.scatter_reduce(0, touched.founder_Q, claim_M.index_select(0, touched.place_Q), 'amin')
        claim_M.index_fill_(0, touched.place_Q, _MOST_FOUNDERS)
        accepted_F = first_F == own_F
        number_F = len(order_K) + accepted_F.cumsum(0)
        members = members.where(accepted_F.index_select(0, members.founder_Q))
        if len(members.place_Q) == 0:  # or the loop would never end
            raise ValueError(f'expected each pixel in the group around it, got none within {float(radius_N.min()):g}')
        pixel_Q = cells.pixel_M.index_select(0, members.place_Q)
        label_N[pixel_Q] = number_F.index_select(0, members.founder_Q)
        order_K = torch.cat([order_K, next_F[accepted_F]])
        if cells.leave_out(members.place_Q):
            claim_M = claim_M[: len(cells.pixel_M)]
        if max_groups is not None and len(order_K) >= max_groups:
            order_M = order_M[label_N[founder_N[order_M]] == 0]
            order_M = _in_open_regions(order_M, order_K, region_N[founder_N], max_groups)
    return _number(label_N, order_K, founder_N, region_N, max_groups)


def _in_open_regions(order_M: Tensor, order_K: Tensor, region_N: Tensor, max_groups: int) -> Tensor:
    """The founders without a group whose region has fewer groups than ``max_groups`` before them in the order."""
    count = int(region_N.max()) + 1
    first_R = torch.full((count,), len(region_N), device=order_M.device)
    first_R.scatter_reduce_(0, region_N[order_M], order_M, 'amin')
    before_K = order_K < first_R[region_N[order_K]]
    groups_R = torch.bincount(region_N[order_K[before_K]], minlength=count)
    return order_M[(groups_R < max_groups)[region_N[order_M]]]


def _number(
    label_N: Tensor, order_K: Tensor, founder_N: Tensor, region_N: Tensor, max_groups: int | None
) -> tuple[Tensor, Tensor]:
    """Numbers groups region after region in the order of their founders, and drops those beyond ``max_groups`` of a region."""
    sorted_K = order_K.sort(stable=True).indices
    sorted_K = sorted_K[region_N[founder_N[order_K[sorted_K]]].sort(stable=True).indices]
    founder_K = founder_N[order_K[sorted_K]]
    region_K = region_N[founder_K]
    kept_K = torch.ones_like(region_K, dtype=torch.bool)
    if max_groups is not None:
        place_K = torch.arange(len(region_K), device=region_K.device) - torch.searchsorted(region_K, region_K)
        kept_K = place_K < max_groups
    number_L = label_N.new_zeros(len(order_K) + 1)
    number_L[sorted_K + 1] = torch.where(kept_K, kept_K.cumsum(0), 0)
    return number_L.index_select(0, label_N), founder_K[kept_K]
