"""From a label map to scored instances in mmdet's structures."""

from itertools import pairwise

import numpy as np
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from ..class_votes import vote_classes
from ..scorers.score_regressor import simple_score


def labels_to_rle(labels_HW: np.ndarray, count: int) -> list[dict]:
    """COCO run-length masks of the groups 1 .. count of a label map, in one walk through it.

    Memory is linear in the pixels; no mask of the picture's size is made.

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
    column_major = labels_HW.T.reshape(-1)
    start = np.flatnonzero(np.diff(column_major, prepend=-1))
    stop = np.append(start[1:], column_major.size)
    label = column_major[start]
    order = np.argsort(label, kind='stable')
    first = np.searchsorted(label[order], np.arange(1, count + 2))
    masks = []
    for begin, end in pairwise(first):
        runs = order[begin:end]
        # Lengths of the runs in turn outside and inside the mask.
        edges = np.stack([start[runs], stop[runs]], axis=1).reshape(-1)
        if len(edges) == 0 or edges[-1] < column_major.size:
            edges = np.append(edges, column_major.size)
        counts = np.diff(edges, prepend=0)
        masks.append(coco_mask.frPyObjects({'size': [height, width], 'counts': counts.tolist()}, height, width))
    return masks


def labels_to_boxes(labels_HW: Tensor, count: int) -> Tensor:
    """Boxes (x1, y1, x2, y2) around the groups 1 .. count, right and lower edge exclusive as mmdet's: (count, 4) float."""
    row_P, column_P = (labels_HW > 0).nonzero(as_tuple=True)
    label_P = labels_HW[row_P, column_P] - 1
    edges = []
    for position_P, reduction in ((column_P, 'amin'), (row_P, 'amin'), (column_P + 1, 'amax'), (row_P + 1, 'amax')):
        edge_K = torch.zeros(count, dtype=torch.long, device=labels_HW.device)
        edges.append(edge_K.scatter_reduce_(0, label_P, position_P, reduce=reduction, include_self=False))
    return torch.stack(edges, dim=1).float()


def make_instances(
    labels_HW: Tensor,
    group_score_K: Tensor,
    class_HW: Tensor,
    probability_HW: Tensor,
    num_classes: int,
    instance_scorer: nn.Module | None = None,
) -> InstanceData:
    r"""Scored instances of a picture.

    An instance has the class that most of its pixels have. Its score is that of ``instance_scorer`` or, without one,

    .. math:: s = g \cdot \frac1{|S|} \sum_{i \in S, c_i = c} p_i

    with g the score of its group in the embedding (:class:`SilhouetteScorer`), c its class, c_i the class map and p_i the
    probability of that class (1 where the class map is the ground truth): pixels that disagree with the instance's
    class count zero.

    Args:
        labels_HW: (H, W) groups 1 .. K without gaps, 0 = none.
        group_score_K: (K,) float.
        class_HW: (H, W) classes, 0 = background.
        probability_HW: (H, W) float.
        num_classes: background included.
        instance_scorer: such as :class:`ScoreRegressor`.

    Returns:
        InstanceData of length K: ``bboxes`` (K, 4), ``scores`` (K,), ``labels`` (K,) from 0 without the background, and
        ``masks``, a list of K run-length encoded masks.
    """
    count = len(group_score_K)
    if count == 0:
        nothing = labels_HW.new_zeros(0)
        return InstanceData(bboxes=probability_HW.new_zeros(0, 4), scores=nothing.float(), labels=nothing, masks=[])
    votes = vote_classes(labels_HW, class_HW, probability_HW, count, num_classes)
    box_K4 = labels_to_boxes(labels_HW, count)
    if instance_scorer is None:
        score_K = simple_score(group_score_K, votes)
    else:
        score_K = instance_scorer(labels_HW, box_K4, group_score_K, votes)
    return InstanceData(
        bboxes=box_K4,
        scores=score_K,
        labels=votes.class_K - 1,
        masks=labels_to_rle(labels_HW.cpu().numpy(), count),
    )
