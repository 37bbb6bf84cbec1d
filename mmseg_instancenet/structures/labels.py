"""Class maps and instance maps: their special values, and operations on whole maps."""

import numpy as np
import torch
from skimage import measure
from torch import Tensor

IGNORED_INSTANCE = -1
"""Value of an instance map where the ground truth is unknown: no loss, no group."""

BACKGROUND_INSTANCE = 0
"""Value of an instance map where there is no object."""

IGNORED_CLASS = 255
"""Value of a class map where the ground truth is unknown (mmseg's default ``ignore_index``)."""

VOID = 'void'
"""Category of annotations that mark ignored pixels; it is no class of a data set."""


def mask_ignored(class_map: Tensor, ignore_index: int = IGNORED_CLASS) -> tuple[Tensor, Tensor]:
    """Splits a class map into valid classes and a mask of the labelled pixels.

    Args:
        class_map: integers of any shape.
        ignore_index: value of ignored pixels.

    Returns:
        the classes, 0 at ignored pixels, so that they can index; and bool of the same shape, False at ignored pixels.

    Example:
        >>> mask_ignored(torch.tensor([3, 255]))
        (tensor([3, 0]), tensor([ True, False]))
    """
    labelled = class_map != ignore_index
    return torch.where(labelled, class_map, 0), labelled


def resize_labels(labels_NHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes label maps to the nearest label at each new cell's centre, exact for integers of any size.

    Args:
        labels_NHW: (..., H, W) of any dtype.
        size: (height, width).

    Example:
        >>> resize_labels(torch.tensor([[[1, 1, 1, 300000001]]]), (1, 2))
        tensor([[[        1, 300000001]]])
    """
    index = []
    for new, old in zip(size, labels_NHW.shape[-2:], strict=True):
        centers = (torch.arange(new, dtype=torch.float64, device=labels_NHW.device) + 0.5) * old / new
        index.append(torch.floor(centers).long().clamp(max=old - 1))
    return labels_NHW[..., index[0][:, None], index[1][None, :]]


def renumber(labels: Tensor, keep_K: Tensor) -> Tensor:
    """Renumbers the labels that are kept 1, 2, .. without gaps, in ascending order; all others become 0.

    Args:
        labels: int64 of any shape, 0 = none.
        keep_K: bool, one entry a label from 0 on; entry 0 is not used.

    Example:
        >>> renumber(torch.tensor([0, 1, 2, 3, 3]), torch.tensor([True, False, True, True]))
        tensor([0, 0, 1, 2, 2])
    """
    keep_K = keep_K.clone()
    keep_K[0] = False
    return torch.where(keep_K, keep_K.long().cumsum(0), 0)[labels]


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
    parts = measure.label(labels_hw.cpu().numpy(), background=0, connectivity=2)
    return torch.from_numpy(parts.astype(np.int64)).to(labels_hw.device)
