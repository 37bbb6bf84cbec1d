"""Joins the groups of several forward passes by their overlap on the image; embeddings of different passes cannot be
compared."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...structures import overlapping_groups


class LabelledWindow(NamedTuple):
    """The groups of one forward pass on its part of the image.

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
    """Stitches the windows of one view: each pixel takes its group from the window whose middle is nearest to it.

    A group that overlaps one of the windows before it enough is the same object (:func:`overlapping_groups`); its score is the
    mean of the scores of its parts.
    """
    device = windows[0].labels_RS.device
    united_HW = torch.full(size, -1, dtype=torch.long, device=device)
    weight_HW = torch.zeros(size, device=device)
    parts, found = [], 0
    for labels_RS, score_K, weight_RS, rows, columns in windows:
        if labels_RS.numel() == 0:
            continue
        name_K = match_or_add(united_HW[rows, columns], labels_RS, found)
        # Groups without a pixel of the image have no number there.
        parts.append((name_K[1:], score_K[: len(name_K) - 1]))
        found = max(found, int(name_K.max()))
        better_RS = weight_RS > weight_HW[rows, columns]
        united_HW[rows, columns] = torch.where(better_RS, name_K[labels_RS], united_HW[rows, columns])
        weight_HW[rows, columns] = torch.maximum(weight_RS, weight_HW[rows, columns])
    return LabelledView(united_HW.clamp(min=0), _mean_scores(parts, found))


def unite_views(views: Sequence[LabelledView]) -> LabelledView:
    """Unites the groups of several views of an image (flips, scales); all views have equal weight.

    Groups of different views that overlap enough are one object (:func:`match_views`). The score of an object is the sum of its
    groups' scores over the number of views: a view without it counts 0. Objects of several views are kept; one that a
    single view has found is kept unless objects that are kept already, or have a higher score, cover more than half of it.
    A pixel belongs to an object where at least half of the views have one that is kept there, and to the one whose groups
    there have the largest sum of scores, the earlier view's among equals.

    Time: views^2 passes over the pixels. Peak memory above the input: three maps of the image for each view.
    """
    if len(views) == 1:
        return views[0]
    names = match_views([labels_HW for labels_HW, _ in views])
    found = max(int(name_K.max()) for name_K in names)
    parts = [(name_K[1:], score_K[: len(name_K) - 1]) for name_K, (_, score_K) in zip(names, views, strict=True)]
    name_M, score_M = (torch.cat(values) for values in zip(*parts, strict=True))
    score_K = score_M.new_zeros(found + 1).index_add_(0, name_M, score_M) / len(views)
    objects = [name_K[labels_HW] for name_K, (labels_HW, _) in zip(names, views, strict=True)]
    kept_K = _kept_objects(objects, torch.bincount(name_M, minlength=found + 1), score_K)
    objects = [object_HW * kept_K[object_HW] for object_HW in objects]
    scores = [nn.functional.pad(score_K, (1, 0))[labels_HW] for labels_HW, score_K in views]

    best_HW, most_HW = torch.zeros_like(objects[0]), torch.full(objects[0].shape, -math.inf, device=objects[0].device)
    for candidate_HW in objects:
        sum_HW = sum(
            torch.where(object_HW == candidate_HW, score_HW, 0)
            for object_HW, score_HW in zip(objects, scores, strict=True)
        )
        better_HW = (candidate_HW > 0) & (sum_HW > most_HW)
        best_HW, most_HW = torch.where(better_HW, candidate_HW, best_HW), torch.where(better_HW, sum_HW, most_HW)
    is_object_HW = 2 * sum((object_HW > 0).long() for object_HW in objects) >= len(views)
    return LabelledView(best_HW * is_object_HW, score_K[1:])


def _kept_objects(objects: Sequence[Tensor], views_K: Tensor, score_K: Tensor) -> Tensor:
    """Marks the objects that are kept, (K + 1,) bool, entry 0 False; see :func:`unite_views`.

    Args:
        objects: of each view the objects (H, W), 0 = none.
        views_K: (K + 1,) number of views that found each.
        score_K: (K + 1,).
    """
    kept_K = views_K > 1
    kept_K[0] = False
    covered_P = torch.stack([kept_K[object_HW] for object_HW in objects]).any(0).reshape(-1)
    # The pixels of each object that a single view found; they are in one of the maps.
    single: dict[int, Tensor] = {}
    for object_HW in objects:
        pixel_P = (object_HW.reshape(-1) > 0).nonzero().squeeze(1)
        object_P = object_HW.reshape(-1)[pixel_P]
        order_P = object_P.argsort(stable=True)
        numbers, sizes = torch.unique_consecutive(object_P[order_P], return_counts=True)
        single.update(zip(numbers.tolist(), pixel_P[order_P].split(sizes.tolist()), strict=True))
    for number in score_K.argsort(descending=True, stable=True).tolist():
        if (
            number in single
            and views_K[number] == 1
            and 2 * int(covered_P[single[number]].sum()) <= len(single[number])
        ):
            kept_K[number] = True
            covered_P[single[number]] = True
    return kept_K


def _mean_scores(parts: Sequence[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """Mean score of each of ``count`` united groups, (K,), from the group numbers (from 1) and the scores of their
    parts."""
    name_M, score_M = (torch.cat(values) for values in zip(*parts, strict=True))
    total_K = torch.zeros(count + 1, device=score_M.device).index_add_(0, name_M, score_M.float())
    return (total_K / torch.bincount(name_M, minlength=count + 1).clamp(min=1))[1:]


def match_or_add(reference_HW: Tensor, labels_HW: Tensor, found: int) -> Tensor:
    """New number of each group of a label map, (K + 1,): that of its match in the reference, or a new one; entry 0 is
    0.

    Args:
        reference_HW: (H, W) names, as in :func:`overlapping_groups`.
        labels_HW: (H, W) groups to be named.
        found: the largest number so far; new numbers follow it.
    """
    name_K = torch.zeros(int(labels_HW.max()) + 1, dtype=torch.long, device=labels_HW.device)
    pairs = overlapping_groups(reference_HW, labels_HW)
    name_K[pairs.label_Q] = pairs.reference_Q
    return _name_the_rest(name_K, found)


def _name_the_rest(name_K: Tensor, found: int) -> Tensor:
    """Gives groups without a number (0) new ones after ``found``, in place."""
    new_K = name_K == 0
    new_K[0] = False
    name_K[new_K] = found + torch.arange(1, int(new_K.sum()) + 1, device=name_K.device)
    return name_K


def match_views(labels: Sequence[Tensor]) -> list[Tensor]:
    """Numbers the objects in several label maps of one image from 1: for each map the object of each of its groups, (K
    + 1,).

    View after view, groups and the objects of the views before are paired, the pair with the largest IoU first (with any one
    group of the object, above 1/2), and each is in one pair at most: an object has at most one group of a view.

    Args:
        labels: (H, W) integers each; 0 = no group, groups from 1.

    Example:
        >>> maps = [torch.tensor([[1, 1, 0, 2]]), torch.tensor([[3, 3, 3, 0]])]
        >>> [names.tolist() for names in match_views(maps)]
        [[0, 1, 2], [0, 3, 4, 1]]
    """
    names: list[Tensor] = []
    for labels_HW in labels:
        pairs: list[tuple[float, int, int]] = []
        for reference_HW, name_K in zip(labels, names, strict=False):  # the views before
            overlaps = overlapping_groups(reference_HW, labels_HW)
            objects = name_K[overlaps.reference_Q].tolist()
            pairs += zip(overlaps.iou_Q.tolist(), overlaps.label_Q.tolist(), objects, strict=True)
        name_K = torch.zeros(int(labels_HW.max()) + 1, dtype=torch.long)
        taken: set[int] = set()
        for _, label, name in sorted(pairs, key=lambda pair: -pair[0]):
            if name_K[label] == 0 and name not in taken:
                name_K[label] = name
                taken.add(name)
        found = max((int(of_view.max()) for of_view in names), default=0)
        names.append(_name_the_rest(name_K, found).to(labels_HW.device))
    return names
