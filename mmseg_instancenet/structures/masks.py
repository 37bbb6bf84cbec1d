"""Converts label maps to run-length masks and bounding boxes."""

from itertools import pairwise

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

_BLOCK = 1 << 20
"""A label map is walked through in blocks of columns of this many pixels."""


def labels_to_rle(labels_HW: np.ndarray, count: int) -> list[dict]:
    """COCO run-length masks of the groups 1 .. count of a label map, in one pass over it.

    Memory is linear in the runs, with a block of a million pixels; nothing of the image's size is made.

    Args:
        labels_HW: (H, W) integers, 0 = no group.
        count: number of groups; each label is at most this.

    Returns:
        ``count`` dicts of ``size`` and ``counts`` (bytes).

    Example:
        >>> labels_to_rle(np.array([[1, 1], [0, 2]]), 2)[1]['size']
        [2, 2]
    """
    height, width = labels_HW.shape
    start, label = _column_major_runs(labels_HW)
    stop = np.append(start[1:], labels_HW.size)
    order = np.argsort(label, kind='stable')
    first = np.searchsorted(label[order], np.arange(1, count + 2))
    masks = []
    for begin, end in pairwise(first):
        runs = order[begin:end]
        # Lengths of the runs in turn outside and inside the mask.
        edges = np.stack([start[runs], stop[runs]], axis=1).reshape(-1)
        if len(edges) == 0 or edges[-1] < labels_HW.size:
            edges = np.append(edges, labels_HW.size)
        counts = np.diff(edges, prepend=0)
        masks.append(coco_mask.frPyObjects({'size': [height, width], 'counts': counts.tolist()}, height, width))
    return masks


def _column_major_runs(labels_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The runs of equal labels in column-major order: where each starts, (R,) int64, and its label (R,)."""
    height, width = labels_HW.shape
    starts, labels = [np.zeros(0, np.int64)], [labels_HW.reshape(-1)[:0]]
    columns = max(1, _BLOCK // max(height, 1))
    last = None
    for left in range(0, width if height else 0, columns):
        block_P = labels_HW[:, left : left + columns].T.reshape(-1)
        changes_P = np.ones(len(block_P), bool)
        np.not_equal(block_P[1:], block_P[:-1], out=changes_P[1:])
        changes_P[0] = last is None or block_P[0] != last
        last = block_P[-1]
        start_R = np.flatnonzero(changes_P)
        starts.append(start_R + left * height)
        labels.append(block_P[start_R])
    return np.concatenate(starts), np.concatenate(labels)


def labels_to_boxes(labels_HW: Tensor, count: int) -> Tensor:
    """Boxes (x1, y1, x2, y2) around the groups 1 .. ``count`` of a label map, (count, 4) float; see :func:`point_boxes`."""
    row_P, column_P = (labels_HW > 0).nonzero(as_tuple=True)
    return point_boxes(row_P, column_P, labels_HW[row_P, column_P] - 1, count).float()


def point_boxes(row_P: Tensor, column_P: Tensor, group_P: Tensor, count: int) -> Tensor:
    """Boxes (x1, y1, x2, y2) around groups of pixels, right and lower edge exclusive as in mmdet: (count, 4) int64.

    Args:
        row_P, column_P: (P,) int64.
        group_P: (P,) int64, the group of each pixel, from 0.
        count: number of groups; one without a pixel gets zeros.

    Example:
        >>> point_boxes(torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), torch.tensor([0, 0, 0]), count=1)
        tensor([[1, 0, 3, 2]])
    """

    def edge(position_P: Tensor, reduction: str) -> Tensor:
        edge_K = torch.full((count,), -1, dtype=torch.long, device=group_P.device)
        return edge_K.scatter_reduce_(0, group_P, position_P, reduce=reduction, include_self=reduction == 'amax')

    left_K, top_K = (edge(position_P, 'amin').clamp_(min=0) for position_P in (column_P, row_P))
    right_K, bottom_K = (edge(position_P, 'amax') + 1 for position_P in (column_P, row_P))
    return torch.stack([left_K, top_K, right_K, bottom_K], dim=1)
