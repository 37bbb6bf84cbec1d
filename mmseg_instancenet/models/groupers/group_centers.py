"""Means of groups."""

import torch
from torch import Tensor


def group_centers(embeddings_Dhw: Tensor, labels_hw: Tensor) -> Tensor:
    """Mean embedding of each group, (K + 1, D); row 0 (no group) is zero."""
    count = int(labels_hw.max()) + 1
    label_N, x_ND = labels_hw.reshape(-1), embeddings_Dhw.flatten(1).T
    sum_KD = x_ND.new_zeros(count, x_ND.shape[1]).index_add_(0, label_N, x_ND)
    center_KD = sum_KD / torch.bincount(label_N, minlength=count).clamp(min=1)[:, None].to(x_ND)
    center_KD[0] = 0
    return center_KD
