"""The segmentor for class-agnostic object proposals: groups of several bandwidths in one ranked list."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...structures import IGNORED_CLASS, RunLengthMasks, map_size
from ..postprocess import View, group_image, make_instances, pool_proposals
from .embedding import EmbeddingSegmentor


@MODELS.register_module()
class ProposalSegmentor(EmbeddingSegmentor):
    """Proposes the objects of an image without regard to class (Kong & Fowlkes 2018, section 5.3).

    The image is grouped at several bandwidths; the groups are pooled, put in order and freed of near-duplicates by
    :func:`pool_proposals`, their own score being that of the group in the embedding x the agreement of its pixels that
    they are an object. Any class but the background is an object: the head is trained as the parent's, on the same data,
    and a checkpoint of the one fits the other.

    Args:
        grouper: config of a :class:`Grouper`, ``class_agnostic=True``.
        more_groupers: settings in which each further grouper differs from ``grouper``, e.g. ``[dict(concentration=200),
            dict(concentration=400)]``: smaller bandwidths for more proposals.
        duplicate_iou: of two masks that overlap with more than this the lower ranked is left out.
        **kwargs: of :class:`EmbeddingSegmentor`; its ``instance_scorer`` is not used for ranking.

    ``predict`` returns the same as the parent. ``pred_instances`` are in order of falling score and have label 0; their masks
    may overlap, and ``pred_instance_map`` shows the best one of each pixel. ``pred_sem_seg`` is 1 for any object.
    """

    def __init__(
        self, *args: Any, grouper: dict, more_groupers: Sequence[dict], duplicate_iou: float = 0.9, **kwargs: Any
    ) -> None:
        super().__init__(*args, grouper=grouper, **kwargs)
        if not self.grouper.class_agnostic:
            raise ValueError('expected a grouper with class_agnostic=True: a proposal has no class')
        if self.test_cfg.get('score_thr'):
            raise ValueError(
                f'expected no test_cfg.score_thr for proposals, got {self.test_cfg["score_thr"]}: take the first ones of the '
                'ranked list instead'
            )
        if not 0 < duplicate_iou < 1:
            raise ValueError(f'expected duplicate_iou in (0, 1), got {duplicate_iou}')
        self.more_groupers = nn.ModuleList(self.build_grouper({**grouper, **settings}) for settings in more_groupers)
        self.duplicate_iou = duplicate_iou

    def views(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> list[View]:
        """The forward passes of the parent class, with two classes: background and object."""
        return [
            [network_pass._replace(scores_Chw=self._object_scores(network_pass.scores_Chw)) for network_pass in view]
            for view in super().views(inputs, data_samples)
        ]

    def classify(self, data_sample: DetDataSample, views: Sequence[View], classes: str) -> tuple[Tensor, Tensor]:
        """Object map (H, W), 0 = background, 1 = object, 255 = ignore, and the probability (H, W) of that value."""
        class_HW, probability_HW = super().classify(data_sample, views, classes)
        if classes == 'ground_truth':
            class_HW = self.class_numbering.things(class_HW)
        return torch.where(class_HW == IGNORED_CLASS, class_HW, class_HW.clamp(max=1)), probability_HW

    def _object_scores(self, scores_Chw: Tensor) -> Tensor:
        return object_scores(scores_Chw, self.class_numbering.is_thing(scores_Chw.device))

    def find_instances(
        self, views: Sequence[View], class_HW: Tensor, probability_HW: Tensor
    ) -> tuple[InstanceData, Tensor]:
        """Finds the proposals of an image, best first, and the best one at each pixel (H, W), 0 = none."""
        groupings = [
            group_image(views, class_HW, probability_HW, 2, grouper, self.group_scorer)
            for grouper in (self.grouper, *self.more_groupers)
        ]
        found = [make_instances(*groups) for groups in groupings]
        pooled = InstanceData.cat(found)
        source_M = np.repeat(np.arange(len(found)), [len(instances) for instances in found])
        kept_K, rank_K = pool_proposals(
            pooled.masks, pooled.scores.detach().double().cpu().numpy(), source_M, self.duplicate_iou
        )
        device = class_HW.device
        kept = torch.from_numpy(kept_K).to(device)
        proposals = InstanceData(
            bboxes=pooled.bboxes[kept],
            scores=torch.from_numpy(rank_K).to(device, torch.float),
            labels=torch.zeros_like(kept),
            masks=RunLengthMasks((pooled.masks[index] for index in kept_K), map_size(class_HW)),
        )
        place_M = torch.full((len(source_M),), len(kept), device=device).index_copy_(
            0, kept, torch.arange(len(kept), device=device)
        )
        return proposals, _best_of_each_pixel([groups.labels_HW for groups in groupings], place_M, len(kept))


def object_scores(scores_Chw: Tensor, is_thing_C: Tensor) -> Tensor:
    """Scores (2, h, w) of the best other class and of the best thing; things win exactly where the class map of all C
    classes is a thing."""
    return torch.stack([scores_Chw[~is_thing_C].amax(0), scores_Chw[is_thing_C].amax(0)])


def _best_of_each_pixel(labels: Sequence[Tensor], place_M: Tensor, count: int) -> Tensor:
    """Rank (from 1) of the best proposal at each pixel, 0 = none.

    Args:
        labels: (H, W) label maps from which the M masks were made, one map after the other.
        place_M: place of each mask in the list of proposals from 0, ``count`` if it is not in it.
        count: of proposals.
    """
    best_HW = torch.full_like(labels[0], count)
    for labels_HW, place_K in zip(labels, place_M.split([int(labels_HW.max()) for labels_HW in labels]), strict=True):
        best_HW = torch.minimum(best_HW, torch.cat([place_K.new_tensor([count]), place_K])[labels_HW])
    return (best_HW + 1) * (best_HW < count)
