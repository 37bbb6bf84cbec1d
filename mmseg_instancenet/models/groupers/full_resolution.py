"""From groups on the head's map to labels on the picture."""

import torch
from torch import Tensor

from ..resize import MapPlacement, bilinear_neighbours
from .group_centers import group_centers

_BLOCK = 1 << 22
"""Distances between pixels and cells are computed in blocks of this many values: 32 MB."""


def label_picture(
    embeddings_Dhw: Tensor,
    labels_hw: Tensor,
    region_hw: Tensor,
    region_HW: Tensor,
    placement: MapPlacement,
) -> tuple[Tensor, slice, slice]:
    """Lets every pixel of the picture join a group that was found on the head's map; none founds a group.

    A pixel's embedding is interpolated bilinearly between the four cells around it, those that belong to a group of the
    pixel's own region alone. Between two objects that gives values which belong to neither, so the choice is
    restricted to the groups of these cells: the pixel joins the one whose mean embedding is nearest. Where the four
    cells hold none, it joins the group of the cell of its region that is nearest in the picture. A region that has no
    group on the map stays without.

    Peak memory above the inputs: about three values for each foreground pixel of the picture and each dimension of the
    embedding; nothing of size pixels x groups.

    Args:
        embeddings_Dhw: (D, h, w) embeddings.
        labels_hw: (h, w) groups, 0 = none, numbered without gaps.
        region_hw: (h, w) region (see :meth:`Grouper.regions`) of each cell, 0 = none.
        region_HW: (H, W) region of each pixel of the picture, 0 = none.
        placement: where the map lies on the picture.

    Returns:
        groups (R, S) int64, 0 = none, of the part of the picture that the map covers, and its rows and columns.
    """
    device = embeddings_Dhw.device
    (row_R, rows), (column_S, columns) = (
        placement.picture_to_map(axis, length, device) for axis, length in enumerate(labels_hw.shape)
    )
    region_RS = region_HW[rows, columns]
    pixel_P = region_RS.reshape(-1).nonzero().squeeze(1)
    labels = torch.zeros(region_RS.numel(), dtype=torch.long, device=device)
    if len(pixel_P) and bool((labels_hw > 0).any()):
        labels[pixel_P] = _join(
            embeddings_Dhw.float(),
            labels_hw,
            region_hw,
            region_RS.reshape(-1)[pixel_P],
            row_R,
            column_S,
            pixel_P,
            placement,
        )
    return labels.reshape(region_RS.shape), rows, columns


def _join(
    embeddings_Dhw: Tensor,
    labels_hw: Tensor,
    region_hw: Tensor,
    region_P: Tensor,
    row_R: Tensor,
    column_S: Tensor,
    pixel_P: Tensor,
    placement: MapPlacement,
) -> Tensor:
    height, width = labels_hw.shape
    center_KD = group_centers(embeddings_Dhw, labels_hw)
    row_P = torch.div(pixel_P, len(column_S), rounding_mode='floor')
    column_P = pixel_P % len(column_S)
    cells = [
        (row_cell_R[row_P] * width + column_cell_S[column_P], row_weight_R[row_P] * column_weight_S[column_P])
        for row_cell_R, row_weight_R in bilinear_neighbours(placement.keep_inside(0, height, row_R), height)
        for column_cell_S, column_weight_S in bilinear_neighbours(placement.keep_inside(1, width, column_S), width)
    ]
    of_cell_N, region_N, x_ND = labels_hw.reshape(-1), region_hw.reshape(-1), embeddings_Dhw.flatten(1).T

    def candidates(cell_P: Tensor) -> tuple[Tensor, Tensor]:
        candidate_P = of_cell_N[cell_P]
        return candidate_P, (candidate_P > 0) & (region_N[cell_P] == region_P)

    sum_PD = x_ND.new_zeros(len(pixel_P), x_ND.shape[1])
    weight_P = x_ND.new_zeros(len(pixel_P))
    for cell_P, cell_weight_P in cells:
        share_P = cell_weight_P.to(x_ND) * candidates(cell_P)[1]
        sum_PD += share_P[:, None] * x_ND[cell_P]
        weight_P += share_P
    x_PD = sum_PD / weight_P.clamp(min=torch.finfo(x_ND.dtype).tiny)[:, None]

    label_P = torch.zeros_like(pixel_P)
    nearest_P = torch.full_like(weight_P, float('inf'))
    for cell_P, cell_weight_P in cells:
        candidate_P, allowed_P = candidates(cell_P)
        distance_P = (x_PD - center_KD[candidate_P]).square().sum(1)
        better_P = allowed_P & (cell_weight_P > 0) & (distance_P < nearest_P)
        label_P = torch.where(better_P, candidate_P, label_P)
        nearest_P = torch.where(better_P, distance_P, nearest_P)

    # Few pixels: slivers of a class too thin for the map.
    left_Q = (label_P == 0).nonzero().squeeze(1)
    if len(left_Q):
        position_Q2 = torch.stack([row_R[row_P[left_Q]], column_S[column_P[left_Q]]], dim=1).float()
        label_P[left_Q] = _nearest_cell(labels_hw, region_hw, region_P[left_Q], position_Q2)
    return label_P


def _nearest_cell(labels_hw: Tensor, region_hw: Tensor, region_Q: Tensor, position_Q2: Tensor) -> Tensor:
    """Group of the grouped cell of the same region that is nearest in the picture; 0 where the region has none."""
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
