"""Average recall of proposals against their number."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from mmengine.logging import MMLogger
from mmseg.registry import METRICS

from ..functional.mask_overlap import IOU_THRESHOLDS, mask_iou, match_greedily
from .mask_metric import ImageMasks, MaskMetric

_SHUFFLES = 10
"""Number of random orders of the proposals; their mean recall is reported beside that of the scores."""

_CURVE_POINTS = 100
"""Numbers of proposals, at most, at which the curve is given."""


@METRICS.register_module()
class ProposalRecallMetric(MaskMetric):
    r"""Recall of the n best scored masks of each image, whatever their class.

    .. math:: AR@n = \frac1{10} \sum_{t \in 0.5:0.05:0.95} \frac{\text{objects found at IoU} \ge t}{\text{objects}}

    over all objects of the data set (Hosang et al., What makes for effective detection proposals?, PAMI 2016).
    ``AR50@n`` is the recall at IoU 0.5 alone, the "total average recall at IoU 0.5" of Kong & Fowlkes 2018.

    Matching is one to one: each proposal in order of its score takes the free object that it overlaps most
    (:func:`match_greedily`), as in COCO's AR (``COCOeval`` with ``useCats=0`` and ``maxDets=n``). MCG's benchmark, from which
    the published VOC results come, takes the best proposal of each object instead. Above IoU 0.5, where objects do not
    overlap each other, as in label maps and in VOC, the two agree: a proposal can exceed 0.5 with one object only.
    n counts the proposals of each image; MCG's curves have the mean number over the images on their axis.

    ``AR@n_random`` and ``AR50@n_random`` are the mean of ten random orders of the same proposals: their distance
    shows the value of the scores. Crowds and void are no objects; void is cut out of the proposals. Without any object all
    metrics are NaN.

    ``curve`` has all four at up to a hundred n, from 1 to the most proposals that an image has, close together where n is
    small. A test writes it into its json file, from which ``tools/analysis/plot_curves.py`` draws it.

    Args:
        num_proposals: the n that get keys of their own.
        ann_file, collect_device, prefix: see :class:`MaskMetric`.

    Example:
        >>> from mmseg.registry import METRICS
        >>> METRICS.build(dict(type='ProposalRecallMetric')).num_proposals
        (10, 60)
    """

    default_prefix = 'proposal'

    def __init__(
        self,
        num_proposals: Sequence[int] = (10, 60),
        ann_file: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(ann_file, collect_device, prefix)
        if not all(number >= 1 for number in num_proposals):
            raise ValueError(f'expected num_proposals >= 1, got {num_proposals}')
        self.num_proposals = tuple(num_proposals)

    def compare(self, masks: ImageMasks, image_id: Any) -> dict:
        iou_KG = mask_iou(masks.masks_K, masks.objects_G)
        # By the image's id, so that the draw does not depend on which process has the image.
        generator = np.random.default_rng(crc32(repr(image_id).encode()))
        shuffles = [match_greedily(generator.permutation(iou_KG), IOU_THRESHOLDS) for _ in range(_SHUFFLES)]
        return {
            'score_TK': match_greedily(iou_KG, IOU_THRESHOLDS),
            'random_TK': np.sum(shuffles, axis=0, dtype=np.uint8),
            'objects': len(masks.objects_G),
        }

    def compute_metrics(self, results: list) -> dict[str, float | dict]:
        longest = max([1, *(result['score_TK'].shape[1] for result in results)])
        objects = sum(result['objects'] for result in results)
        if objects == 0:
            MMLogger.get_current_instance().warning(
                f'{len(results)} images were evaluated, and their ground truth has no object: recall is NaN'
            )
        numbers_P = np.unique(np.geomspace(1, longest, _CURVE_POINTS).round().astype(int))
        metrics, curve = {}, {'proposals an image': numbers_P.tolist()}
        for key, runs, suffix in (('score_TK', 1, ''), ('random_TK', _SHUFFLES, '_random')):
            found_TN = np.zeros((len(IOU_THRESHOLDS), longest))
            for result in results:
                found_TN[:, : result[key].shape[1]] += result[key]
            # In an image with fewer than n proposals, all of them count.
            recall_TN = found_TN.cumsum(1) / (runs * objects or np.nan)
            for name, recall_N in {'AR': recall_TN.mean(0), 'AR50': recall_TN[0]}.items():
                curve[f'{name}{suffix}'] = recall_N[numbers_P - 1].round(4).tolist()
                for number in self.num_proposals:
                    metrics[f'{name}@{number}{suffix}'] = float(recall_N[min(number, longest) - 1])
        return {**metrics, 'curve': curve}  # last, since save_best='auto' takes the first
