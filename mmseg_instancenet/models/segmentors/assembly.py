"""From the passes of a network to the label map and the instances of one picture."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..groupers.base import Grouper
from ..groupers.full_resolution import label_picture
from ..losses.instances import IGNORED_CLASS
from .matching import name_groups, vote_groups
from .network_pass import NetworkPass, View, axis_weight


class PictureGroups(NamedTuple):
    """Groups of a picture: labels (H, W), 0 = none, 1 .. K without gaps; score (K,) of each in the embedding."""

    labels_HW: Tensor
    score_K: Tensor


def group_picture(views: Sequence[View], class_HW: Tensor, grouper: Grouper, scorer: nn.Module) -> PictureGroups:
    """Groups every pass by its own embeddings and unites the results by their overlap.

    Windows of one view are stitched: a pixel belongs to the group of the window that has it nearest its middle. Views
    vote. The score of a united group is the mean of the scores of its parts.

    Args:
        views: of the picture; each covers it once.
        class_HW: (H, W) class map of the picture, 0 = background, 255 = ignore.
        grouper, scorer: see :class:`Grouper` and :class:`SilhouetteScorer`.
    """
    groups = _unite_views(views, class_HW, grouper, scorer)
    return _drop_background(groups, class_HW) if grouper.background_groups else groups


def _unite_views(views: Sequence[View], class_HW: Tensor, grouper: Grouper, scorer: nn.Module) -> PictureGroups:
    if len(views) == 1:
        return _compact(*_group_view(views[0], class_HW, grouper, scorer))
    results = [_group_view(view, class_HW, grouper, scorer) for view in views]
    labels_HW, names = vote_groups([labels for labels, _ in results])
    return _compact(labels_HW, _mean_scores(list(zip(names, (score for _, score in results), strict=True))))


def _group_view(view: View, class_HW: Tensor, grouper: Grouper, scorer: nn.Module) -> tuple[Tensor, Tensor]:
    """Label map of the picture and the score of each label, (K + 1,)."""
    region_HW = grouper.regions(class_HW)
    united_HW = torch.full_like(class_HW, -1)
    weight_HW = torch.zeros(class_HW.shape, device=class_HW.device)
    parts, found = [], 0
    for network_pass in view:
        labels_hw, region_hw = _group_pass(network_pass, class_HW, grouper)
        score_K = scorer(network_pass.embeddings_Dhw, labels_hw, region_hw)
        labels_RS, rows, columns = label_picture(
            network_pass.embeddings_Dhw, labels_hw, region_hw, region_HW, network_pass.placement
        )
        if labels_RS.numel() == 0:
            continue
        name_K = name_groups([united_HW[rows, columns]], labels_RS, found)
        # Groups that own no pixel of the picture have no name there.
        parts.append((name_K, score_K[: len(name_K) - 1]))
        found = max(found, int(name_K.max()))
        weight_RS = axis_weight(network_pass, 0)[2].float()[:, None] * axis_weight(network_pass, 1)[2].float()[None, :]
        better_RS = weight_RS > weight_HW[rows, columns]
        united_HW[rows, columns] = torch.where(better_RS, name_K[labels_RS], united_HW[rows, columns])
        weight_HW[rows, columns] = torch.maximum(weight_RS, weight_HW[rows, columns])
    return united_HW.clamp(min=0), _mean_scores([(name_K, torch.cat([s.new_zeros(1), s])) for name_K, s in parts])


def _group_pass(network_pass: NetworkPass, class_HW: Tensor, grouper: Grouper) -> tuple[Tensor, Tensor]:
    """Groups (h, w) of one pass and the regions (h, w) in which they were found."""
    placement = network_pass.placement
    (row_h, inside_h), (column_w, inside_w) = (
        placement.map_to_picture(axis, length, class_HW.device)
        for axis, length in enumerate(network_pass.embeddings_Dhw.shape[1:])
    )
    inside_hw = inside_h[:, None] & inside_w[None, :]
    # Padding is no background, which a grouper may look at.
    class_hw = torch.where(inside_hw, class_HW[row_h[:, None], column_w[None, :]], IGNORED_CLASS)
    return grouper(network_pass.embeddings_Dhw.float(), class_hw), grouper.regions(class_hw)


def _drop_background(groups: PictureGroups, class_HW: Tensor) -> PictureGroups:
    """Without the groups of which the background is the largest class."""
    labels_HW, score_K = groups
    classes = int(class_HW.max()) + 1
    pixels_KC = torch.bincount((labels_HW * classes + class_HW).reshape(-1), minlength=(len(score_K) + 1) * classes)
    is_object_K = pixels_KC.reshape(-1, classes).argmax(1) > 0
    return _compact(labels_HW * is_object_K[labels_HW], F.pad(score_K, (1, 0)))


def _mean_scores(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean score of each united group, (K + 1,), from the names and scores (both with entry 0 = no group) of its parts."""
    name_M, score_M = (torch.cat(values) for values in zip(*parts, strict=True))
    total_K = torch.zeros(int(name_M.max()) + 1, device=score_M.device).index_add_(0, name_M, score_M.float())
    return total_K / torch.bincount(name_M).clamp(min=1)


def _compact(labels_HW: Tensor, score_K: Tensor) -> PictureGroups:
    """Numbers the groups that own a pixel 1 .. K without gaps."""
    present_K = torch.bincount(labels_HW.reshape(-1), minlength=len(score_K)) > 0
    present_K[0] = False
    new_K = torch.where(present_K, present_K.long().cumsum(0), 0)
    return PictureGroups(new_K[labels_HW], score_K[present_K])
