"""Splitting groups that are not one piece in the picture."""

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor


def split_components(labels_hw: Tensor) -> Tensor:
    """Splits each group of a label map into its 8-connected components, each a group of its own.

    Args:
        labels_hw: (h, w) integers, 0 = no group.

    Returns:
        (h, w) int64 on the same device: 0 = no group, components numbered 1, 2, .. in reading order.

    Example:
        >>> split_components(torch.tensor([[4, 0, 4, 4, 9]]))
        tensor([[1, 0, 2, 2, 3]])
    """
    labels = labels_hw.cpu().numpy()
    height, width = labels.shape
    pixel = np.arange(labels.size).reshape(height, width)
    # An edge wherever two neighbouring pixels (right, below, and both diagonals) belong to one group.
    pairs = [
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
        (np.s_[:-1, 1:], np.s_[1:, :-1]),
    ]
    edges = [
        np.stack([pixel[a][same], pixel[b][same]])
        for a, b in pairs
        for same in [(labels[a] == labels[b]) & (labels[a] != 0)]
    ]
    start, stop = np.concatenate(edges, axis=1)
    graph = coo_matrix((np.ones(len(start), np.bool_), (start, stop)), shape=(labels.size, labels.size))
    _, component = connected_components(graph, directed=False)
    grouped = labels.reshape(-1) != 0
    parts = np.zeros(labels.size, np.int64)
    _, first, inverse = np.unique(component[grouped], return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(1, len(first) + 1)
    parts[grouped] = order[inverse] if len(first) else 0
    return torch.from_numpy(parts.reshape(height, width)).to(labels_hw.device)
