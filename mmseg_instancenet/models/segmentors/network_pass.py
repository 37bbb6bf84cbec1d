"""What one forward pass says about one picture, and the class map that several passes give together."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..resize import MapPlacement, sample_bilinear

_BLOCK = 1 << 24
"""Class probabilities at the picture's size are computed in blocks of rows of this many values: 64 MB."""


class NetworkPass(NamedTuple):
    """Class scores (C, h, w) and embeddings (D, h, w) of one picture, or one window of it, and where they lie."""

    scores_Chw: Tensor
    embeddings_Dhw: Tensor
    placement: MapPlacement

    def on_picture(self, *maps_HW: Tensor) -> list[Tensor]:
        """The cells that lie on the picture, without the padding: their embeddings (D, h', w'), in float32, and what maps of the
        picture (H, W) say under each, (h', w')."""
        (row_h, inside_h), (column_w, inside_w) = (
            self.placement.map_to_picture(axis, length, self.embeddings_Dhw.device)
            for axis, length in enumerate(self.embeddings_Dhw.shape[1:])
        )
        row_h1, column_1w = row_h[inside_h][:, None], column_w[inside_w][None, :]
        embeddings_Dhw = self.embeddings_Dhw[:, inside_h][:, :, inside_w].float()
        return [embeddings_Dhw, *(map_HW[row_h1, column_1w] for map_HW in maps_HW)]

    def upright_embeddings(self) -> Tensor:
        """The embeddings without the padding and turned as the picture is: (D, h', w'), for looking at."""
        result = self.embeddings_Dhw
        for axis in (0, 1):
            _, inside = self.placement.map_to_picture(axis, result.shape[1 + axis], result.device)
            result = result.index_select(1 + axis, inside.nonzero().squeeze(1))
            if self.placement.flipped[axis]:
                result = result.flip(1 + axis)
        return result


View = Sequence[NetworkPass]
"""The passes that cover the picture once: one, or one a window."""


def axis_weight(network_pass: NetworkPass, axis: int) -> tuple[Tensor, slice, Tensor]:
    """Positions on the map of the rows (axis 0) or columns (axis 1) that a pass covers, which these are, and weights.

    The weight grows from a window's rim to its middle, since an object that the rim cuts is seen badly; it is 1 where
    the pass covers the picture from end to end.
    """
    placement, length = network_pass.placement, network_pass.scores_Chw.shape[1 + axis]
    position, span = placement.picture_to_map(axis, length, network_pass.scores_Chw.device)
    inside = placement.keep_inside(axis, length, position)
    if len(position) == placement.picture_size[axis]:
        return inside, span, torch.ones_like(position)
    return inside, span, torch.minimum(position, length - position).clamp(min=1e-3)


def average_classes(views: Sequence[View], picture_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Class and its probability for each pixel of the picture, averaged over all passes of all views.

    Scores are interpolated to the picture, normalised to log probabilities and averaged: by :func:`axis_weight` within a
    view, alike over the views. In the logarithm a pass that is unsure does not outvote one that is sure.

    Returns:
        class (H, W) int64 and probability (H, W) float32.
    """
    height, width = picture_size
    scores = views[0][0].scores_Chw
    num_classes, device = scores.shape[0], scores.device
    class_HW = torch.empty(picture_size, dtype=torch.long, device=device)
    probability_HW = torch.empty(picture_size, device=device)
    axes = [[(axis_weight(p, 0), axis_weight(p, 1)) for p in view] for view in views]
    rows_at_once = max(1, _BLOCK // (num_classes * width))
    for top in range(0, height, rows_at_once):
        bottom = min(height, top + rows_at_once)
        sum_CRW = torch.zeros(num_classes, bottom - top, width, device=device)
        for view, view_axes in zip(views, axes, strict=True):
            view_CRW, total_RW = torch.zeros_like(sum_CRW), torch.zeros_like(sum_CRW[0])
            for network_pass, ((row, rows, row_weight), (column, columns, column_weight)) in zip(
                view, view_axes, strict=True
            ):
                first, last = max(top, rows.start), min(bottom, rows.stop)
                if first >= last or columns.start >= columns.stop:
                    continue
                inside = slice(first - rows.start, last - rows.start)
                log_probability = sample_bilinear(network_pass.scores_Chw.float(), row[inside], column).log_softmax(0)
                weight = row_weight[inside].float()[:, None] * column_weight.float()[None, :]
                view_CRW[:, first - top : last - top, columns] += log_probability * weight
                total_RW[first - top : last - top, columns] += weight
            sum_CRW += view_CRW / total_RW.clamp(min=torch.finfo(torch.float).tiny)
        probability, class_HW[top:bottom] = (sum_CRW / len(views)).softmax(0).max(0)
        probability_HW[top:bottom] = probability
    return class_HW, probability_HW
