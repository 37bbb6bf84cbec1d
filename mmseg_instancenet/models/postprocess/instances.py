"""Builds scored instances in mmdet's structures from the groups of an image."""

from mmengine.structures import InstanceData
from torch import Tensor, nn

from ...structures import RunLengthMasks, labels_to_boxes, labels_to_rle, map_size, renumber
from ..scorers.score_regressor import ClassVotes, simple_score


def make_instances(
    labels_HW: Tensor,
    group_score_K: Tensor,
    votes: ClassVotes,
    instance_scorer: nn.Module | None = None,
) -> InstanceData:
    r"""Builds the scored instances of an image from its groups.

    An instance has the class that most of its pixels have. Its score is that of ``instance_scorer`` or, without one,

    .. math:: s = g \cdot \frac1{|S|} \sum_{i \in S, c_i = c} p_i

    with g the score of its group in the embedding (:class:`SilhouetteScorer`), c its class, c_i the class map and p_i the
    probability of that class (1 where the class map is the ground truth): pixels that disagree with the instance's
    class count zero.

    Args:
        labels_HW: (H, W) groups 1 .. K without gaps, 0 = none.
        group_score_K: (K,) float.
        votes: for the class of each group; see :func:`~..scorers.vote_classes`.
        instance_scorer: such as :class:`ScoreRegressor`.

    Returns:
        InstanceData of length K: ``bboxes`` (K, 4), ``scores`` (K,), ``labels`` (K,) from 0 without the background, and
        ``masks``, :class:`RunLengthMasks`.
    """
    count, size = len(group_score_K), map_size(labels_HW)
    if count == 0:
        nothing = labels_HW.new_zeros(0)
        return InstanceData(
            bboxes=group_score_K.new_zeros(0, 4),
            scores=nothing.float(),
            labels=nothing,
            masks=RunLengthMasks(size=size),
        )
    box_K4 = labels_to_boxes(labels_HW, count)
    if instance_scorer is None:
        score_K = simple_score(group_score_K, votes)
    else:
        score_K = instance_scorer(labels_HW, box_K4, group_score_K, votes)
    return InstanceData(
        bboxes=box_K4,
        scores=score_K,
        labels=votes.class_K - 1,
        masks=RunLengthMasks(labels_to_rle(labels_HW.cpu().numpy(), count), size),
    )


def drop_low_scores(instances: InstanceData, labels_HW: Tensor, score_thr: float = 0.0) -> tuple[InstanceData, Tensor]:
    """Drops the instances with scores below a cut, and renumbers their map.

    Args:
        instances: K instances with ``scores`` (K,).
        labels_HW: (H, W) map of them, 0 = none, k = the k-th.
        score_thr: instances with a score below it are dropped; 0 keeps all, also one whose score a fitted
            :class:`ScoreRegressor` puts below 0.

    Returns:
        the instances that are kept, in their order, and their map (H, W), renumbered without gaps: 0 = none or dropped.

    Example:
        >>> import torch
        >>> instances = InstanceData(scores=torch.tensor([0.9, 0.2, 0.5]))
        >>> drop_low_scores(instances, torch.tensor([[1, 2, 3, 0]]), 0.5)[1]
        tensor([[1, 0, 2, 0]])
    """
    kept_K = instances.scores >= score_thr
    if score_thr == 0 or kept_K.all():
        return instances, labels_HW
    return instances[kept_K], renumber(labels_HW, nn.functional.pad(kept_K, (1, 0)))
