"""Counting and matching metrics on label maps: leaves, nuclei, fruit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.registry import METRICS
from terminaltables import AsciiTable

from ..functional.label_overlap import (
    LabelOverlap,
    count_splits_and_merges,
    label_overlap,
    match_objects,
    symmetric_best_dice,
)
from ..functional.mask_overlap import IOU_THRESHOLDS

_OF_THRESHOLD = ('precision', 'recall', 'F1', 'accuracy', 'PQ')
_KEYS = (
    *('SBD', 'DiC', 'abs_DiC', 'splits', 'merges'),
    *(f'{name}_{100 * threshold:g}' for threshold in IOU_THRESHOLDS for name in _OF_THRESHOLD),
    'mean_accuracy',
)


@METRICS.register_module()
class CountingMetric(BaseMetric):
    r"""CVPPP's measures, StarDist's matching metrics, and splits and merges, on label maps without regard to class.

    Compares ``pred_instance_map`` with ``gt_instance_map``, both (1, H, W) at the image's original size: in the test
    pipeline ``LoadInstanceMasks`` and ``MasksToMaps`` come after the resize. Pixels with ground truth -1 (crowds, void)
    are left out of both maps. Where objects overlap, ``MasksToMaps`` decides the ground truth.

    Keys, t = 50, 55, .. 95 percent IoU:

    - ``SBD``: symmetric best Dice, mean over the images (:func:`symmetric_best_dice`).
    - ``DiC`` and ``abs_DiC``: predicted minus true count and its absolute value, mean over the images.
    - ``precision_t`` = TP / (TP + FP), ``recall_t`` = TP / (TP + FN), ``F1_t`` = 2 TP / (2 TP + FP + FN), ``accuracy_t`` =
      TP / (TP + FP + FN), and ``mean_accuracy`` over t. TP are pairs with IoU >= t (:func:`match_objects`), counted over the
      whole data set, as in StarDist's ``matching_dataset(by_image=False)``; 0 where there is no pair.
    - ``PQ_t``: sum of the IoU of the pairs / (TP + FP / 2 + FN / 2), with t = 50 the panoptic quality of one class
      (Kirillov et al., CVPR 2019). mmdet's ``CocoPanopticMetric`` cannot serve here: it reads the ground truth from a
      panoptic json with a folder of png files, and needs ``panopticapi``.
    - ``splits`` and ``merges``: over the whole data set (:func:`count_splits_and_merges`).

    Where no image was evaluated every key is NaN.

    Args:
        collect_device, prefix: see MMEngine's ``BaseMetric``.

    Example, beside COCO's metrics in a config::

        val_evaluator = [dict(type='CocoInstanceMetric'), dict(type='CountingMetric')]
    """

    default_prefix = 'counting'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            if 'gt_instance_map' not in data_sample:
                raise KeyError(
                    'CountingMetric needs gt_instance_map: load the annotations in the test pipeline '
                    '(LoadInstanceMasks, MasksToMaps and PackInstanceMaps)'
                )
            truth_HW, prediction_HW = (
                torch.as_tensor(data_sample[name]['data'])[0].cpu().numpy()
                for name in ('gt_instance_map', 'pred_instance_map')
            )
            if truth_HW.shape != prediction_HW.shape:
                raise ValueError(
                    f'expected gt_instance_map at the size {prediction_HW.shape} of pred_instance_map, the original size, got '
                    f'{truth_HW.shape}: put LoadInstanceMasks after the resize in the test pipeline'
                )
            self.results.append(_metrics_of_image(label_overlap(truth_HW, prediction_HW)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not results:
            MMLogger.get_current_instance().warning('no image was evaluated: every metric of CountingMetric is NaN')
            return dict.fromkeys(_KEYS, float('nan'))
        truths, predictions, best_dice, pairs, iou_sums, split, merged = (
            np.array(column) for column in zip(*results, strict=True)
        )
        difference = predictions - truths
        metrics = {
            'SBD': float(best_dice.mean()),
            'DiC': float(difference.mean()),
            'abs_DiC': float(np.abs(difference).mean()),
            'splits': int(split.sum()),
            'merges': int(merged.sum()),
        }
        rows = [['IoU', *_OF_THRESHOLD]]
        true, predicted = int(truths.sum()), int(predictions.sum())
        for threshold, matched, iou_sum in zip(
            IOU_THRESHOLDS, pairs.sum(0).tolist(), iou_sums.sum(0).tolist(), strict=True
        ):
            ratios = (
                _ratio(matched, predicted),
                _ratio(matched, true),
                _ratio(2 * matched, true + predicted),
                _ratio(matched, true + predicted - matched),
                _ratio(2 * iou_sum, true + predicted),
            )
            metrics.update(
                {f'{name}_{100 * threshold:g}': ratio for name, ratio in zip(_OF_THRESHOLD, ratios, strict=True)}
            )
            rows.append([f'{threshold:g}', *(f'{ratio:.3f}' for ratio in ratios)])
        metrics['mean_accuracy'] = float(np.mean([metrics[f'accuracy_{100 * t:g}'] for t in IOU_THRESHOLDS]))
        MMLogger.get_current_instance().info(f'{true} objects, {predicted} predicted\n{AsciiTable(rows).table}')
        return metrics


def _metrics_of_image(overlap: LabelOverlap) -> tuple:
    pairs, iou_sums = zip(*(match_objects(overlap, threshold) for threshold in IOU_THRESHOLDS), strict=True)
    return (
        len(overlap.truth_area_G),
        len(overlap.prediction_area_K),
        symmetric_best_dice(overlap),
        pairs,
        iou_sums,
        *count_splits_and_merges(overlap),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
