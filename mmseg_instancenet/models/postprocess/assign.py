"""Assigns the pixels of an image to groups that were found on the map of the head."""

import torch
from torch import Tensor

from ...structures import GroupStatistics, bilinear_neighbours
from .passes import AxisCoverage

_BLOCK = 1 << 22
"""Embeddings of pixels, and distances between pixels and cells, are computed in blocks of this many values: 16 MB."""


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

    Peak memory above the inputs: a few values for each foreground pixel of the image, and some blocks of 16 MB; nothing of size
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
    pixel_P = region_RS.reshape(-1).nonzero().squeeze(1)
    labels = torch.zeros(region_RS.numel(), dtype=torch.long, device=labels_hw.device)
    if len(pixel_P) == 0 or len(statistics.mean_KD) == 0:
        return labels.view_as(region_RS)
    region_P = region_RS.reshape(-1)[pixel_P]
    block = max(1, _BLOCK // (len(embeddings_Dhw) + 1))
    label_P = torch.cat(
        [
            _nearest_of_four(embeddings_Dhw, labels_hw, region_hw, statistics, region_B, pixel_B, rows, columns)
            for region_B, pixel_B in zip(region_P.split(block), pixel_P.split(block), strict=True)
        ]
    )
    # Few pixels, of structures too thin for the map: those whose four cells hold no group of their region.
    left_Q = (label_P == 0).nonzero().squeeze(1)
    if len(left_Q):
        row_Q, column_Q = _rows_and_columns(pixel_P[left_Q], columns)
        position_Q2 = torch.stack([rows.position_R[row_Q], columns.position_R[column_Q]], dim=1).float()
        label_P[left_Q] = _nearest_cell(labels_hw, region_hw, region_P[left_Q], position_Q2)
    labels[pixel_P] = label_P
    return labels.view_as(region_RS)


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
    for region in region_Q.unique().tolist():
        cell_C2 = ((labels_hw > 0) & (region_hw == region)).nonzero()
        if len(cell_C2) == 0:
            continue
        cell_label_C = labels_hw[cell_C2[:, 0], cell_C2[:, 1]]
        of_region = (region_Q == region).nonzero().squeeze(1)
        for block in of_region.split(max(1, _BLOCK // len(cell_C2))):
            distance_BC = torch.cdist(position_Q2[block], cell_C2.float() + 0.5)
            label_Q[block] = cell_label_C[distance_BC.argmin(1)]
    return label_Q
