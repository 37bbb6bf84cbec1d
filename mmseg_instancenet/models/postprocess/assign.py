"""Assigns the pixels of an image to groups that were found on the map of the head."""

import torch
from torch import Tensor

from ...structures import GroupStatistics, bilinear_neighbours
from .passes import AxisCoverage

_BLOCK = 1 << 22
"""Embeddings of pixels, and distances between pixels and cells, are computed in blocks of this many values: 16 MB."""

_RADII = (4, 16)
"""Cells: the nearest one is looked for within these distances first, then on the whole map."""


def assign_pixels(
    embeddings_Dhw: Tensor,
    labels_hw: Tensor,
    region_hw: Tensor,
    statistics: GroupStatistics,
    region_RS: Tensor,
    rows: AxisCoverage,
    columns: AxisCoverage,
) -> Tensor:
    """Assigns every pixel of the image to a group that was found on the head's map; no new group is made.

    A pixel's embedding is interpolated bilinearly between the four cells around it, those that belong to a group of the
    pixel's own region alone. Between two objects that gives values which belong to neither, so the choice is
    restricted to the groups of these cells: the pixel joins the one whose mean embedding is nearest. Where the four
    cells hold none, it joins the group of the cell of its region that is nearest in the image. A region that has no
    group on the map stays without.

    Peak memory above the inputs: a few values for each pixel of the image, and some blocks of 16 MB; nothing of size
    pixels x D or pixels x groups.

    Args:
        embeddings_Dhw: (D, h, w) float embeddings.
        labels_hw: (h, w) groups, 0 = none, numbered without gaps.
        region_hw: (h, w) region (see :meth:`Grouper.regions`) of each cell, 0 = none.
        statistics: of the groups.
        region_RS: (R, S) region of each pixel of the part of the image that the map covers, 0 = none.
        rows, columns: where these pixels lie on the map.

    Returns:
        (R, S) int64 groups, 0 = none.
    """
    if labels_hw.numel() == 0 or region_RS.numel() == 0 or len(statistics.mean_KD) == 0:
        return torch.zeros_like(region_RS, dtype=torch.long)
    least_RS, most_RS = _groups_of_four(labels_hw, region_hw, region_RS, rows, columns)
    labels = most_RS.reshape(-1)
    # Most pixels have one group around them.
    pixel_P = (least_RS != most_RS).reshape(-1).nonzero().squeeze(1)
    for pixel_B in pixel_P.split(max(1, _BLOCK // (len(embeddings_Dhw) + 1))):
        region_B = region_RS.reshape(-1)[pixel_B]
        labels[pixel_B] = _nearest_of_four(
            embeddings_Dhw, labels_hw, region_hw, statistics, region_B, pixel_B, rows, columns
        )
    # Few pixels, of structures too thin for the map: those whose four cells hold no group of their region.
    left_Q = ((most_RS == 0) & (region_RS > 0)).reshape(-1).nonzero().squeeze(1)
    if len(left_Q):
        row_Q, column_Q = _rows_and_columns(left_Q, columns)
        position_Q2 = torch.stack([rows.position_R[row_Q], columns.position_R[column_Q]], dim=1).float()
        labels[left_Q] = _nearest_cell(labels_hw, region_hw, region_RS.reshape(-1)[left_Q], position_Q2)
    return labels.view_as(region_RS)


def _groups_of_four(
    labels_hw: Tensor, region_hw: Tensor, region_RS: Tensor, rows: AxisCoverage, columns: AxisCoverage
) -> tuple[Tensor, Tensor]:
    """The lowest and the highest number of the groups that a pixel may join, those of the four cells around it: (R, S) each, 0
    if there is none."""
    height, width = labels_hw.shape
    none = int(labels_hw.max()) + 1
    least_RS, most_RS = torch.full_like(region_RS, none), torch.zeros_like(region_RS)
    for row_cell_R, row_weight_R in bilinear_neighbours(rows.inside_R, height):
        for column_cell_S, column_weight_S in bilinear_neighbours(columns.inside_R, width):
            has_weight_RS = (row_weight_R > 0)[:, None] & (column_weight_S > 0)
            if not has_weight_RS.any():  # as where cells are pixels
                continue
            label_RS, cell_region_RS = (
                map_hw.index_select(0, row_cell_R).index_select(1, column_cell_S) for map_hw in (labels_hw, region_hw)
            )
            joins_RS = (label_RS > 0) & (cell_region_RS == region_RS) & has_weight_RS
            most_RS = torch.maximum(most_RS, label_RS * joins_RS)
            least_RS = torch.minimum(least_RS, torch.where(joins_RS, label_RS, none))
    return torch.where(most_RS > 0, least_RS, 0), most_RS


def _rows_and_columns(pixel_B: Tensor, columns: AxisCoverage) -> tuple[Tensor, Tensor]:
    width = len(columns.position_R)
    return torch.div(pixel_B, width, rounding_mode='floor'), pixel_B % width


def _nearest_of_four(
    embeddings_Dhw: Tensor,
    labels_hw: Tensor,
    region_hw: Tensor,
    statistics: GroupStatistics,
    region_B: Tensor,
    pixel_B: Tensor,
    rows: AxisCoverage,
    columns: AxisCoverage,
) -> Tensor:
    """The group with the nearest mean among the groups of the four cells around each of B pixels, (B,); 0 if the cells
    have no group."""
    height, width = labels_hw.shape
    row_B, column_B = _rows_and_columns(pixel_B, columns)
    label_M, region_M, x_MD = labels_hw.reshape(-1), region_hw.reshape(-1), embeddings_Dhw.flatten(1).T
    cells = []  # of each corner: its index, its bilinear weight, its group, and whether a pixel may join that
    for row_cell_R, row_weight_R in bilinear_neighbours(rows.inside_R, height):
        for column_cell_R, column_weight_R in bilinear_neighbours(columns.inside_R, width):
            cell_B = row_cell_R[row_B] * width + column_cell_R[column_B]
            weight_B = (row_weight_R[row_B] * column_weight_R[column_B]).to(x_MD)
            candidate_B = label_M[cell_B]
            allowed_B = (candidate_B > 0) & (region_M[cell_B] == region_B)
            cells.append((cell_B, weight_B, candidate_B, allowed_B))

    sum_BD = x_MD.new_zeros(len(pixel_B), x_MD.shape[1])
    weight_sum_B = x_MD.new_zeros(len(pixel_B))
    for cell_B, weight_B, _, allowed_B in cells:
        share_B = weight_B * allowed_B
        sum_BD += share_B[:, None] * x_MD[cell_B]
        weight_sum_B += share_B
    x_BD = sum_BD / weight_sum_B.clamp(min=torch.finfo(x_MD.dtype).tiny)[:, None]

    label_B = torch.zeros_like(pixel_B)
    nearest_B = torch.full_like(weight_sum_B, float('inf'))
    for _, weight_B, candidate_B, allowed_B in cells:
        difference_BD = x_BD - statistics.mean_KD[candidate_B - 1]
        distance_B = torch.linalg.vector_norm(difference_BD, ord=statistics.norm, dim=1)
        better_B = allowed_B & (weight_B > 0) & (distance_B < nearest_B)
        label_B = torch.where(better_B, candidate_B, label_B)
        nearest_B = torch.where(better_B, distance_B, nearest_B)
    return label_B


def _nearest_cell(labels_hw: Tensor, region_hw: Tensor, region_Q: Tensor, position_Q2: Tensor) -> Tensor:
    """The group of the nearest grouped cell of the same region; 0 if the region has none."""
    label_Q = torch.zeros_like(region_Q)
    left_Q = torch.arange(len(region_Q), device=region_Q.device)
    for radius in _RADII:
        blocks = left_Q.split(max(1, _BLOCK // (2 * radius + 1) ** 2))
        for block in blocks:
            label_Q[block] = _nearest_within(labels_hw, region_hw, region_Q[block], position_Q2[block], radius)
        left_Q = left_Q[label_Q[left_Q] == 0]
        if len(left_Q) == 0:
            return label_Q
    for region in region_Q[left_Q].unique().tolist():
        cell_C2 = ((labels_hw > 0) & (region_hw == region)).nonzero()
        if len(cell_C2) == 0:
            continue
        cell_label_C = labels_hw[cell_C2[:, 0], cell_C2[:, 1]]
        for block in left_Q[region_Q[left_Q] == region].split(max(1, _BLOCK // len(cell_C2))):
            distance_BC = torch.cdist(position_Q2[block], cell_C2.float() + 0.5)
            label_Q[block] = cell_label_C[distance_BC.argmin(1)]
    return label_Q


def _nearest_within(labels_hw: Tensor, region_hw: Tensor, region_B: Tensor, position_B2: Tensor, radius: int) -> Tensor:
    """The group of the nearest grouped cell of the same region, if its centre lies within a radius, in cells; else 0."""
    height, width = labels_hw.shape
    steps = torch.arange(-radius, radius + 1, device=labels_hw.device)
    row_BC, column_BC = (
        (position_B2[:, axis, None].floor().long() + steps_C)
        for axis, steps_C in enumerate((steps.repeat_interleave(len(steps)), steps.repeat(len(steps))))
    )
    inside_BC = (row_BC >= 0) & (row_BC < height) & (column_BC >= 0) & (column_BC < width)
    cell_BC = row_BC.clamp(0, height - 1) * width + column_BC.clamp(0, width - 1)
    label_BC, cell_region_BC = (map_hw.reshape(-1)[cell_BC] for map_hw in (labels_hw, region_hw))
    joins_BC = inside_BC & (label_BC > 0) & (cell_region_BC == region_B[:, None])
    square_BC = (row_BC + 0.5 - position_B2[:, :1]).square() + (column_BC + 0.5 - position_B2[:, 1:]).square()
    square_B, nearest_B = square_BC.masked_fill(~joins_BC, torch.inf).min(1)
    return label_BC.gather(1, nearest_B[:, None]).squeeze(1) * (square_B <= radius**2)
