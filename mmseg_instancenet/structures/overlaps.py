"""Which groups of two label maps are one object."""

from typing import NamedTuple

import torch
from torch import Tensor

_SAME_OBJECT_IOU = 0.5
"""Two groups are one object above this overlap: then no group can have two partners."""


class Overlaps(NamedTuple):
    """Pairs of groups of two label maps whose IoU exceeds 1/2: ``label_Q``, ``reference_Q`` and ``iou_Q``. No group is in two."""

    label_Q: Tensor
    reference_Q: Tensor
    iou_Q: Tensor


def overlapping_groups(reference_HW: Tensor, labels_HW: Tensor) -> Overlaps:
    """The pairs of groups of a label map and a reference that are one object.

    Compared only where the reference covers the image.

    Args:
        reference_HW: (H, W) integers; -1 = not covered, 0 = no group, groups from 1.
        labels_HW: (H, W) integers; 0 = no group, groups from 1.

    Example:
        >>> overlapping_groups(torch.tensor([[5, 5, 0, -1]]), torch.tensor([[1, 1, 2, 2]]))
        Overlaps(label_Q=tensor([1]), reference_Q=tensor([5]), iou_Q=tensor([1.]))
    """
    pairs = _overlapping_pairs(reference_HW, labels_HW)
    either_Q = pairs.label_pixels_Q + pairs.reference_pixels_Q - pairs.both_Q
    same_Q = pairs.both_Q > _SAME_OBJECT_IOU * either_Q
    return Overlaps(pairs.label_Q[same_Q], pairs.reference_Q[same_Q], pairs.both_Q[same_Q] / either_Q[same_Q])


class Covers(NamedTuple):
    """Pairs of groups ``label_Q``, ``reference_Q`` of two label maps: more than half of the first lies in the second."""

    label_Q: Tensor
    reference_Q: Tensor


def covering_groups(reference_HW: Tensor, labels_HW: Tensor) -> Covers:
    """The groups of a reference that hold more than half of a group of a label map, at most one for each group.

    Args:
        reference_HW, labels_HW: see :func:`overlapping_groups`.

    Example:
        >>> covering_groups(torch.tensor([[5, 5, 5, 0]]), torch.tensor([[1, 0, 2, 2]]))
        Covers(label_Q=tensor([1]), reference_Q=tensor([5]))
    """
    pairs = _overlapping_pairs(reference_HW, labels_HW)
    covered_Q = 2 * pairs.both_Q > pairs.label_pixels_Q
    return Covers(pairs.label_Q[covered_Q], pairs.reference_Q[covered_Q])


class _Pairs(NamedTuple):
    """Pairs of groups that share a pixel: which, the pixels that they share, and those of each where the reference covers."""

    label_Q: Tensor
    reference_Q: Tensor
    both_Q: Tensor
    label_pixels_Q: Tensor
    reference_pixels_Q: Tensor


def _overlapping_pairs(reference_HW: Tensor, labels_HW: Tensor) -> _Pairs:
    covered_HW = reference_HW >= 0
    reference_P, label_P = reference_HW[covered_HW], labels_HW[covered_HW]
    span = int(reference_P.max()) + 1 if len(label_P) else 1
    pair_Q, both_Q = torch.unique(label_P * span + reference_P, return_counts=True)
    label_Q, reference_Q = torch.div(pair_Q, span, rounding_mode='floor'), pair_Q % span
    pixels = (torch.bincount(label_P)[label_Q], torch.bincount(reference_P)[reference_Q])
    are_groups_Q = (label_Q > 0) & (reference_Q > 0)
    return _Pairs(*(value_Q[are_groups_Q] for value_Q in (label_Q, reference_Q, both_Q, *pixels)))
