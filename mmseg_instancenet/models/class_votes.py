"""The class of a group, by the vote of its pixels."""

from typing import NamedTuple

import torch
from torch import Tensor


class ClassVotes(NamedTuple):
    """Of each of K groups: ``class_K``, the class that most of its pixels have; ``share_K``, the share of pixels that have it;
    ``agreement_K``, the mean probability of that class, pixels of other classes counting zero."""

    class_K: Tensor
    share_K: Tensor
    agreement_K: Tensor


def vote_classes(
    labels_HW: Tensor, class_HW: Tensor, probability_HW: Tensor, count: int, num_classes: int
) -> ClassVotes:
    r"""Lets the pixels of each group vote for its class.

    .. math:: a = \frac1{|S|} \sum_{i \in S, c_i = c} p_i

    is the agreement of a group S whose class is c, with c_i the class map and p_i its probability. Among equal numbers of
    votes the lowest class wins.

    Args:
        labels_HW: (H, W) groups 1 .. count without gaps, 0 = none.
        class_HW: (H, W) classes, 0 = background.
        probability_HW: (H, W) float, of the class that the class map names.
        count: K, number of groups.
        num_classes: background included.

    Example:
        >>> labels, classes = torch.tensor([[1, 1, 1, 1]]), torch.tensor([[2, 2, 1, 2]])
        >>> vote_classes(labels, classes, torch.full((1, 4), 0.8), count=1, num_classes=3)
        ClassVotes(class_K=tensor([2]), share_K=tensor([0.7500]), agreement_K=tensor([0.6000]))
    """
    inside_HW = labels_HW > 0
    pair_P = (labels_HW[inside_HW] - 1) * num_classes + class_HW[inside_HW]
    pixels_KC = torch.bincount(pair_P, minlength=count * num_classes).reshape(count, num_classes)
    sum_KC = torch.zeros(count * num_classes, device=labels_HW.device).index_add_(0, pair_P, probability_HW[inside_HW])
    class_K1 = pixels_KC.argmax(1, keepdim=True)
    size_K = pixels_KC.sum(1)
    of_class = (
        values_KC.gather(1, class_K1).squeeze(1) / size_K for values_KC in (pixels_KC, sum_KC.view_as(pixels_KC))
    )
    return ClassVotes(class_K1.squeeze(1), *of_class)
