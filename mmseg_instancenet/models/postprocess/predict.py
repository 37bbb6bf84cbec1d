"""From the network outputs for one image to its instances: all steps in order.

1. Regions: the pixels of one class, or of any class, that are grouped together.
2. Each pass of the network (the whole image, a window, a flipped image) is grouped by its own embeddings; the statistics of
   its groups give each a score, and the pixels of the image join the groups (:mod:`.assign`).
3. Windows are stitched to one label map of the image, then views are united (:mod:`.merge`).
4. The pixels of each group vote for its class.
5. Groups become instances with class, score, box and mask; those with a low score may be dropped (:mod:`.instances`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from mmengine.structures import InstanceData
from torch import Tensor, nn

from ...structures import group_statistics, map_size, renumber
from ..groupers import Grouper
from ..scorers.score_regressor import ClassVotes, vote_classes
from .assign import assign_pixels
from .instances import drop_low_scores, make_instances
from .merge import LabelledWindow, stitch_windows, unite_views
from .passes import NetworkPass, View


class ImageGroups(NamedTuple):
    """Groups of an image: ``labels_HW``, 0 = none, 1 .. K without gaps; ``score_K`` of each in the embedding; ``votes`` for
    their classes."""

    labels_HW: Tensor
    score_K: Tensor
    votes: ClassVotes


def predict_instances(
    views: Sequence[View],
    class_HW: Tensor,
    probability_HW: Tensor,
    num_classes: int,
    grouper: Grouper,
    group_scorer: nn.Module,
    instance_scorer: nn.Module | None = None,
    score_thr: float = 0.0,
) -> tuple[InstanceData, Tensor]:
    """Computes the scored instances of an image and their map.

    Args:
        views: of the image; each covers it once.
        class_HW: (H, W) classes, 0 = background, 255 = ignore.
        probability_HW: (H, W) float, of that class.
        num_classes: background included.
        grouper: see :class:`~..groupers.Grouper`.
        group_scorer: scores a group in the embedding; see :class:`~..scorers.SilhouetteScorer`.
        instance_scorer: scores an instance; see :func:`make_instances`.
        score_thr: instances with a score below it are dropped, 0 keeps all; see :func:`drop_low_scores`.

    Returns:
        InstanceData as :func:`make_instances` has it, and (H, W) int64: 0 = none, k = the k-th instance.
    """
    groups = group_image(views, class_HW, probability_HW, num_classes, grouper, group_scorer)
    instances = make_instances(groups.labels_HW, groups.score_K, groups.votes, instance_scorer)
    return drop_low_scores(instances, groups.labels_HW, score_thr)


def group_image(
    views: Sequence[View],
    class_HW: Tensor,
    probability_HW: Tensor,
    num_classes: int,
    grouper: Grouper,
    group_scorer: nn.Module,
) -> ImageGroups:
    """Computes the groups of an image with their scores and classes (steps 1 to 4); for the arguments see
    :func:`predict_instances`."""
    region_HW = grouper.regions(class_HW)
    labels_HW, score_K = unite_views(
        [
            stitch_windows(
                [_label_window(network_pass, region_HW, grouper, group_scorer) for network_pass in view],
                map_size(class_HW),
            )
            for view in views
        ]
    )
    votes = vote_classes(labels_HW, class_HW, probability_HW, len(score_K), num_classes)
    kept_K = votes.size_K > 0
    if grouper.background_groups:
        kept_K = kept_K & (votes.class_K > 0)
    labels_HW = renumber(labels_HW, nn.functional.pad(kept_K, (1, 0)))
    return ImageGroups(labels_HW, score_K[kept_K], ClassVotes(*(values_K[kept_K] for values_K in votes)))


def _label_window(
    network_pass: NetworkPass, region_HW: Tensor, grouper: Grouper, group_scorer: nn.Module
) -> LabelledWindow:
    """Finds the groups of one forward pass and assigns the pixels to them (step 2)."""
    embeddings_Dhw = grouper.prepare(network_pass.embeddings_Dhw)
    region_hw = network_pass.under_cells(region_HW, outside=0)
    labels_hw = grouper.group_map(embeddings_Dhw, region_hw)
    compared_Ehw = grouper.compared(embeddings_Dhw)
    statistics = group_statistics(compared_Ehw, labels_hw, region_hw, grouper.norm)
    score_K = group_scorer(embeddings_Dhw, labels_hw, statistics)
    rows, columns = (network_pass.coverage(axis) for axis in (0, 1))
    labels_RS = assign_pixels(
        compared_Ehw, labels_hw, region_hw, statistics, region_HW[rows.pixels, columns.pixels], rows, columns
    )
    weight_RS = rows.weight_R.float()[:, None] * columns.weight_R.float()[None, :]
    return LabelledWindow(labels_RS, score_K, weight_RS, rows.pixels, columns.pixels)
