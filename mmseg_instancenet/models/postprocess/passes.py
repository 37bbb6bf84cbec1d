"""The output of one forward pass for one image, and the average of the class maps of several passes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...structures import MapPlacement, check_finite, sample_bilinear

_BLOCK = 1 << 24
"""Class probabilities at the image's size are computed in blocks of rows of this many values: 64 MB."""


class AxisCoverage(NamedTuple):
    """The rows (or columns) of the image that a forward pass covers, and their positions on its map.

    pixels: of the image.
    position_R: where each of the R rows lies on the map, in cells.
    inside_R: the same, moved to the centre of the last cell inside the image: nothing is read from the padding.
    weight_R: grows from the border of a window to its middle, since objects cut by the border are less certain; 1 where the
        pass covers the image from end to end.
    """

    pixels: slice
    position_R: Tensor
    inside_R: Tensor
    weight_R: Tensor


class NetworkPass(NamedTuple):
    """Class scores (C, h', w') and embeddings (D, h, w) of one image or one window of it, and their position on the
    image.

    Attributes:
        score_kind: 'logits' of a softmax over the classes, 'sigmoid' logits of each class, or 'probabilities'.
    """

    scores_Chw: Tensor
    embeddings_Dhw: Tensor
    placement: MapPlacement
    score_kind: str = 'logits'

    def under_cells(self, map_HW: Tensor, outside: int) -> Tensor:
        """Samples a map of the image, (H, W), at each cell, (h, w); ``outside`` for cells in the padding."""
        (row_h, inside_h), (column_w, inside_w) = self._cells()
        value_hw = map_HW[row_h[:, None], column_w[None, :]]
        return torch.where(inside_h[:, None] & inside_w[None, :], value_hw, outside)

    def without_padding(self, map_hw: Tensor) -> Tensor:
        """Crops a map (.., h, w) to the cells (.., h', w') on the image."""
        (_, inside_h), (_, inside_w) = self._cells()
        return map_hw[..., inside_h, :][..., inside_w]

    def on_image(self, *maps_HW: Tensor) -> list[Tensor]:
        """Crops embeddings and maps to the cells on the image: embeddings (D, h', w'), float32, and the image's maps at
        these cells, (h', w')."""
        maps_hw = [self.under_cells(map_HW, outside=0) for map_HW in maps_HW]
        return [self.without_padding(map_hw) for map_hw in (self.embeddings_Dhw.float(), *maps_hw)]

    def _cells(self) -> list[tuple[Tensor, Tensor]]:
        """The image's row or column at each row and column of cells, and whether it lies inside the image."""
        return [
            self.placement.map_to_image(axis, length, self.embeddings_Dhw.device)
            for axis, length in enumerate(self.embeddings_Dhw.shape[1:])
        ]

    def upright_embeddings(self) -> Tensor:
        """The embeddings in the orientation of the image, without the padding: (D, h', w'), for display."""
        flipped_axes = [axis + 1 for axis in (0, 1) if self.placement.flipped[axis]]
        return self.without_padding(self.embeddings_Dhw).flip(flipped_axes)

    def coverage(self, axis: int, of_scores: bool = False) -> AxisCoverage:
        """The rows (axis 0) or columns (axis 1) of the image that the pass covers, and their positions on the map of
        embeddings or of scores."""
        length = (self.scores_Chw if of_scores else self.embeddings_Dhw).shape[1 + axis]
        position_R, pixels = self.placement.image_to_map(axis, length, self.embeddings_Dhw.device)
        inside_R = self.placement.keep_inside(axis, length, position_R)
        if len(position_R) == self.placement.image_size[axis]:
            weight_R = torch.ones_like(position_R)
        else:
            weight_R = torch.minimum(position_R, length - position_R).clamp(min=1e-3)
        return AxisCoverage(pixels, position_R, inside_R, weight_R)


View = Sequence[NetworkPass]
"""The forward passes that cover the image once: one, or one for each window."""


def average_classes(views: Sequence[View], image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Class of each pixel of the image and its probability, averaged over all passes of all views.

    Scores are interpolated to the image, turned into log probabilities (:func:`log_probabilities`) and averaged: by
    :class:`AxisCoverage`'s weights within a view, alike over the views. In the logarithm a pass that is unsure does not outvote
    one that is sure.

    Returns:
        class (H, W) int64 and probability (H, W) float32.

    Raises:
        ValueError: if scores are NaN, or infinite so that they have no softmax.
    """
    height, width = image_size
    scores, kind = views[0][0].scores_Chw, views[0][0].score_kind
    num_classes, device = scores.shape[0], scores.device
    class_HW = torch.empty(image_size, dtype=torch.long, device=device)
    probability_HW = torch.empty(image_size, device=device)
    axes = [[tuple(one.coverage(axis, of_scores=True) for axis in (0, 1)) for one in view] for view in views]
    rows_at_once = max(1, _BLOCK // (num_classes * width))
    for top in range(0, height, rows_at_once):
        bottom = min(height, top + rows_at_once)
        sum_CRW = torch.zeros(num_classes, bottom - top, width, device=device)
        for view, view_axes in zip(views, axes, strict=True):
            view_CRW, total_RW = torch.zeros_like(sum_CRW), torch.zeros_like(sum_CRW[0])
            for network_pass, (rows, columns) in zip(view, view_axes, strict=True):
                first, last = max(top, rows.pixels.start), min(bottom, rows.pixels.stop)
                if first >= last or columns.pixels.start >= columns.pixels.stop:
                    continue
                block = slice(first - rows.pixels.start, last - rows.pixels.start)
                scores_CRS = sample_bilinear(network_pass.scores_Chw.float(), rows.inside_R[block], columns.inside_R)
                weight_RS = rows.weight_R[block].float()[:, None] * columns.weight_R.float()[None, :]
                view_CRW[:, first - top : last - top, columns.pixels] += log_probabilities(scores_CRS, kind) * weight_RS
                total_RW[first - top : last - top, columns.pixels] += weight_RS
            sum_CRW += view_CRW / total_RW.clamp(min=torch.finfo(torch.float).tiny)
        mean_CRW = sum_CRW / len(views)
        # Classes of a softmax have probabilities that sum to 1.
        probability_CRW = mean_CRW.softmax(0) if kind == 'logits' else mean_CRW.exp()
        probability_HW[top:bottom], class_HW[top:bottom] = probability_CRW.max(0)
    check_finite(probability_HW, 'class scores')
    return class_HW, probability_HW


def log_probabilities(scores: Tensor, kind: str) -> Tensor:
    """Logarithm of the probability of each class, from scores (C, ..) of the kind 'logits', 'sigmoid' or 'probabilities'.

    Example:
        >>> log_probabilities(torch.tensor([0.25, 1.5]), 'probabilities').exp()
        tensor([0.2500, 1.0000])
    """
    if kind == 'logits':
        return scores.log_softmax(0)
    if kind == 'sigmoid':
        return torch.nn.functional.logsigmoid(scores)
    # Several queries for one class can sum to more than 1.
    return scores.clamp(torch.finfo(scores.dtype).tiny, 1).log()
