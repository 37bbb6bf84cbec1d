"""From groups on the map of the head to labels of the image's pixels."""

import torch
from torch import Tensor

from ...structures import bilinear_neighbours
from .passes import AxisCoverage

_BLOCK = 1 << 22
"""Distances between pixels and cells are computed in blocks of this many values: 32 MB."""


def assign_pixels(
    embeddings_Dhw: Tensor,
    labels_hw: Tensor,
    region_hw: Tensor,
    mean_KD: Tensor,
    region_RS: Tensor,
    rows: AxisCoverage,
    columns: AxisCoverage,
) -> Tensor:
    """Assigns every pixel of the image to a group that was found on the head's map; none founds a group.

    A pixel's embedding is interpolated bilinearly between the four cells around it, those that belong to a group of the
    pixel's own region alone. Between two objects that gives values which belong to neither, so the choice is
    restricted to the groups of these cells: the pixel joins the one whose mean embedding is nearest. Where the four
    cells hold none, it joins the group of the cell of its region that is nearest in the image. A region that has no
    group on the map stays without.

    Peak memory above the inputs: about three values for each foreground pixel of the image and each dimension of the
    embedding; nothing of size pixels x groups.

    Args:
        embeddings_Dhw: (D, h, w) float embeddings.
        labels_hw: (h, w) groups, 0 = none, numbered without gaps.
        region_hw: (h, w) region (see :meth:`Grouper.regions`) of each cell, 0 = none.
        mean_KD: (K, D) mean embedding of each group.
        region_RS: (R, S) region of each pixel of the part of the image that the map covers, 0 = none.
        rows, columns: where these pixels lie on the map.

    Returns:
        (R, S) int64 groups, 0 = none.
    """
    pixel_P = region_RS.reshape(-1).nonzero().squeeze(1)
    labels = torch.zeros(region_RS.numel(), dtype=torch.long, device=labels_hw.device)
    if len(pixel_P) == 0 or len(mean_KD) == 0:
        return labels.view_as(region_RS)
    height, width = labels_hw.shape
    region_P = region_RS.reshape(-1)[pixel_P]
    row_P = torch.div(pixel_P, len(columns.position_R), rounding_mode='floor')
    column_P = pixel_P % len(columns.position_R)
    cells = [
        (row_cell_R[row_P] * width + column_cell_S[column_P], row_weight_R[row_P] * column_weight_S[column_P])
        for row_cell_R, row_weight_R in bilinear_neighbours(rows.inside_R, height)
        for column_cell_S, column_weight_S in bilinear_neighbours(columns.inside_R, width)
    ]
    label_M, region_M, x_MD = labels_hw.reshape(-1), region_hw.reshape(-1), embeddings_Dhw.flatten(1).T

    def candidates(cell_P: Tensor) -> tuple[Tensor, Tensor]:
        candidate_P = label_M[cell_P]
        return candidate_P, (candidate_P > 0) & (region_M[cell_P] == region_P)

    sum_PD = x_MD.new_zeros(len(pixel_P), x_MD.shape[1])
    weight_P = x_MD.new_zeros(len(pixel_P))
    for cell_P, cell_weight_P in cells:
        share_P = cell_weight_P.to(x_MD) * candidates(cell_P)[1]
        sum_PD += share_P[:, None] * x_MD[cell_P]
        weight_P += share_P
    x_PD = sum_PD / weight_P.clamp(min=torch.finfo(x_MD.dtype).tiny)[:, None]

    label_P = torch.zeros_like(pixel_P)
    nearest_P = torch.full_like(weight_P, float('inf'))
    for cell_P, cell_weight_P in cells:
        candidate_P, allowed_P = candidates(cell_P)
        distance_P = (x_PD - mean_KD[candidate_P - 1]).square().sum(1)
        better_P = allowed_P & (cell_weight_P > 0) & (distance_P < nearest_P)
        label_P = torch.where(better_P, candidate_P, label_P)
        nearest_P = torch.where(better_P, distance_P, nearest_P)

    # Few pixels: slivers of a class too thin for the map.
    left_Q = (label_P == 0).nonzero().squeeze(1)
    if len(left_Q):
        position_Q2 = torch.stack([rows.position_R[row_P[left_Q]], columns.position_R[column_P[left_Q]]], dim=1).float()
        label_P[left_Q] = _nearest_cell(labels_hw, region_hw, region_P[left_Q], position_Q2)
    labels[pixel_P] = label_P
    return labels.view_as(region_RS)


def _nearest_cell(labels_hw: Tensor, region_hw: Tensor, region_Q: Tensor, position_Q2: Tensor) -> Tensor:
    """Group of the grouped cell of the same region that is nearest in the image; 0 where the region has none."""
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
