"""Joins the groups of several passes, whose embeddings cannot be compared, by their overlap on the image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_SAME_OBJECT_IOU = 0.5
"""Two groups are one object above this overlap: then no group can have two partners."""


class LabelledWindow(NamedTuple):
    """What one pass found on its part of the image.

    labels_RS: (R, S) groups 1 .. K, 0 = none, of the pixels that the pass covers.
    score_K: of its groups.
    weight_RS: (R, S) > 0; among windows a pixel belongs to the one with the largest.
    rows, columns: of the image that the pass covers.
    """

    labels_RS: Tensor
    score_K: Tensor
    weight_RS: Tensor
    rows: slice
    columns: slice


class LabelledView(NamedTuple):
    """Groups of the whole image: ``labels_HW``, 0 = none, 1 .. K; ``score_K``. A group may have no pixel."""

    labels_HW: Tensor
    score_K: Tensor


def stitch_windows(windows: Sequence[LabelledWindow], size: tuple[int, int]) -> LabelledView:
    """Stitches the windows of one view: a pixel belongs to the group of the window that has it nearest its middle.

    A group that overlaps one of the windows before it enough is the same object (:func:`match_groups`); its score is the mean
    of the scores of its parts.
    """
    device = windows[0].labels_RS.device
    united_HW = torch.full(size, -1, dtype=torch.long, device=device)
    weight_HW = torch.zeros(size, device=device)
    parts, found = [], 0
    for labels_RS, score_K, weight_RS, rows, columns in windows:
        if labels_RS.numel() == 0:
            continue
        name_K = name_groups([united_HW[rows, columns]], labels_RS, found)
        # Groups that own no pixel of the image have no name there.
        parts.append((name_K[1:], score_K[: len(name_K) - 1]))
        found = max(found, int(name_K.max()))
        better_RS = weight_RS > weight_HW[rows, columns]
        united_HW[rows, columns] = torch.where(better_RS, name_K[labels_RS], united_HW[rows, columns])
        weight_HW[rows, columns] = torch.maximum(weight_RS, weight_HW[rows, columns])
    return LabelledView(united_HW.clamp(min=0), _mean_scores(parts, found))


def unite_views(views: Sequence[LabelledView]) -> LabelledView:
    """Unites the groups of several views by :func:`vote_groups`; the score of an object is the mean of its groups' scores."""
    if len(views) == 1:
        return views[0]
    labels_HW, names = vote_groups([labels_HW for labels_HW, _ in views])
    found = max(int(name_K.max()) for name_K in names)
    parts = [(name_K[1:], score_K[: len(name_K) - 1]) for name_K, (_, score_K) in zip(names, views, strict=True)]
    return LabelledView(labels_HW, _mean_scores(parts, found))


def _mean_scores(parts: Sequence[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """Mean score of each of ``count`` united groups from the names (from 1) and scores of their parts, (K,)."""
    name_M, score_M = (torch.cat(values) for values in zip(*parts, strict=True))
    total_K = torch.zeros(count + 1, device=score_M.device).index_add_(0, name_M, score_M.float())
    return (total_K / torch.bincount(name_M, minlength=count + 1).clamp(min=1))[1:]


def match_groups(reference_HW: Tensor, labels_HW: Tensor) -> Tensor:
    """For each group of a label map, the group of the reference with which its IoU exceeds 0.5.

    Compared only where the reference covers the image.

    Args:
        reference_HW: (H, W) integers; -1 = not covered, 0 = no group, groups from 1.
        labels_HW: (H, W) integers; 0 = no group, groups from 1.

    Returns:
        (K + 1,) int64, K the largest label: the matching group, 0 = none.

    Example:
        >>> match_groups(torch.tensor([[5, 5, 0, -1]]), torch.tensor([[1, 1, 2, 2]]))
        tensor([0, 5, 0])
    """
    match_K = torch.zeros(int(labels_HW.max()) + 1, dtype=torch.long, device=labels_HW.device)
    covered = reference_HW >= 0
    reference_P, label_P = reference_HW[covered], labels_HW[covered]
    if len(label_P) == 0:
        return match_K
    span = int(reference_P.max()) + 1
    pair_Q, both_Q = torch.unique(label_P * span + reference_P, return_counts=True)
    label_Q, reference_Q = torch.div(pair_Q, span, rounding_mode='floor'), pair_Q % span
    either_Q = torch.bincount(label_P)[label_Q] + torch.bincount(reference_P)[reference_Q] - both_Q
    same_Q = (label_Q > 0) & (reference_Q > 0) & (both_Q > _SAME_OBJECT_IOU * either_Q)
    match_K[label_Q[same_Q]] = reference_Q[same_Q]
    return match_K


def name_groups(references: Sequence[Tensor], labels_HW: Tensor, found: int) -> Tensor:
    """The name of each group of a label map, (K + 1,): its match in the first reference that has one, or a new name.

    Args:
        references: (H, W) maps of names, as in :func:`match_groups`.
        labels_HW: (H, W) groups to be named.
        found: the largest name so far; new names follow it.
    """
    name_K = torch.zeros(int(labels_HW.max()) + 1, dtype=torch.long, device=labels_HW.device)
    for reference_HW in references:
        name_K = torch.where(name_K == 0, match_groups(reference_HW, labels_HW), name_K)
    new_K = name_K == 0
    new_K[0] = False
    name_K[new_K] = found + torch.arange(1, int(new_K.sum()) + 1, device=name_K.device)
    return name_K


def vote_groups(labels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Unites label maps of the whole image: each pixel goes to the object to which most of them give it.

    A group that matches one of the maps before (:func:`match_groups`) is the same object. Among equals the first map
    decides.

    Args:
        labels: (H, W) integers each; 0 = no group, groups from 1.

    Returns:
        the united map (H, W), and for each map the (K + 1,) united name of each of its groups.

    Example:
        >>> maps = [torch.tensor([[1, 1, 0, 0]]), torch.tensor([[2, 2, 2, 0]]), torch.tensor([[1, 1, 1, 0]])]
        >>> vote_groups(maps)[0]
        tensor([[1, 1, 1, 0]])
    """
    names: list[Tensor] = []
    translated: list[Tensor] = []
    found = 0
    for labels_HW in labels:
        name_K = name_groups(translated, labels_HW, found)
        found = max(found, int(name_K.max()))
        names.append(name_K)
        translated.append(name_K[labels_HW])
    return _majority(translated), names


def _majority(labels: Sequence[Tensor]) -> Tensor:
    best_HW, most_HW = labels[0], torch.zeros_like(labels[0])
    for labels_HW in labels:
        votes_HW = sum((other_HW == labels_HW).long() for other_HW in labels)
        best_HW, most_HW = torch.where(votes_HW > most_HW, labels_HW, best_HW), torch.maximum(votes_HW, most_HW)
    return best_HW
