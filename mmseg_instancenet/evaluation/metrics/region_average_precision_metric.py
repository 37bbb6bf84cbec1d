"""AP^r, the average precision of regions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from mmseg.registry import METRICS
from terminaltables import AsciiTable

from ..functional.mask_overlap import average_precision, mask_iou, match_greedily
from .mask_metric import ImageMasks, MaskMetric


@METRICS.register_module()
class RegionAveragePrecisionMetric(MaskMetric):
    """AP^r, the average precision of regions (Hariharan et al., Simultaneous Detection and Segmentation, ECCV 2014).
    Papers on VOC report it at an IoU of 0.5.

    The detections of a class over all images, by falling score; in its image each takes the object of its class that it
    overlaps most among those not yet taken (:func:`match_greedily`), and is right where that IoU *exceeds* the threshold.
    A second detection of an object is wrong. AP is the whole area under the interpolated precision-recall curve
    (:func:`average_precision`), not COCO's mean over 101 recalls, and nothing limits the number of detections.

    Void is excluded, see :class:`MaskMetric`. Hariharan et al. have no crowds; here COCO's rule holds: a detection
    without an object that lies in a crowd of its class with more than the threshold of its own area is left out.

    Keys: ``APr_50`` and so on for each threshold, ``APr`` their mean; each is the mean over the classes that occur in the
    ground truth, NaN if none does. With ``iou_thresholds=(0.1, 0.2, .. 0.9)`` ``APr`` is AP^r_vol.

    Args:
        iou_thresholds: in (0, 1).
        classwise: also return ``APr_50_person`` and so on and print the table of the classes, as mmdet's ``CocoMetric``.
        ann_file, collect_device, prefix: see :class:`MaskMetric`.

    Example:
        >>> from mmseg.registry import METRICS
        >>> METRICS.build(dict(type='RegionAveragePrecisionMetric')).iou_thresholds
        (0.5, 0.6, 0.7, 0.8, 0.9)
    """

    default_prefix = 'region'

    def __init__(
        self,
        iou_thresholds: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9),
        classwise: bool = False,
        ann_file: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(ann_file, collect_device, prefix)
        if not iou_thresholds or not all(0 < threshold < 1 for threshold in iou_thresholds):
            raise ValueError(f'expected iou_thresholds in (0, 1), got {iou_thresholds}')
        self.iou_thresholds, self.classwise = tuple(iou_thresholds), classwise

    def compare(self, masks: ImageMasks, image_id: Any) -> dict:
        above_T = np.nextafter(self.iou_thresholds, 1)  # the next float: an IoU has to exceed the threshold
        hit_TK = np.zeros((len(above_T), len(masks.masks_K)), bool)
        excused_TK = np.zeros_like(hit_TK)
        for label in np.unique(masks.labels_K):
            index_K = np.flatnonzero(masks.labels_K == label)
            detections = [masks.masks_K[index] for index in index_K]
            objects, crowds = (
                [mask for mask, of in zip(found, labels, strict=True) if of == label]
                for found, labels in (
                    (masks.objects_G, masks.object_labels_G),
                    (masks.crowds_J, masks.crowd_labels_J),
                )
            )
            hit_TK[:, index_K] = match_greedily(mask_iou(detections, objects), above_T)
            inside_K = mask_iou(detections, crowds, crowd=True).max(1, initial=0)
            excused_TK[:, index_K] = ~hit_TK[:, index_K] & (inside_K >= above_T[:, None])
        return {
            'labels_K': masks.labels_K,
            'scores_K': masks.scores_K,
            'hit_TK': hit_TK,
            'excused_TK': excused_TK,
            'objects_C': np.bincount(masks.object_labels_G, minlength=len(self.cat_ids)),
        }

    def compute_metrics(self, results: list) -> dict[str, float]:
        num_classes, num_thresholds = len(self.dataset_meta['classes']), len(self.iou_thresholds)
        nothing = {
            'labels_K': np.zeros(0, int),
            'scores_K': np.zeros(0),
            'hit_TK': np.zeros((num_thresholds, 0), bool),
            'excused_TK': np.zeros((num_thresholds, 0), bool),
            'objects_C': np.zeros(num_classes, int),
        }  # so that there is an array to join if no image was evaluated
        label_K, score_K, hit_TK, excused_TK = (
            np.concatenate([nothing[key], *(result[key] for result in results)], axis=-1)
            for key in ('labels_K', 'scores_K', 'hit_TK', 'excused_TK')
        )
        objects_C = sum((result['objects_C'] for result in results), nothing['objects_C'])
        order_K = np.argsort(-score_K, kind='stable')
        label_K, hit_TK, excused_TK = label_K[order_K], hit_TK[:, order_K], excused_TK[:, order_K]
        ap_TC = np.array(
            [
                [
                    average_precision(hit_K[(label_K == label) & ~excused_K], count)
                    for label, count in enumerate(objects_C)
                ]
                for hit_K, excused_K in zip(hit_TK, excused_TK, strict=True)
            ]
        )
        names = [f'APr_{100 * threshold:g}' for threshold in self.iou_thresholds]
        occurs_C = objects_C > 0
        if not occurs_C.any():
            MMLogger.get_current_instance().warning(
                f'{len(results)} images were evaluated, and their ground truth has no object: AP^r is NaN'
            )
        mean_T = ap_TC[:, occurs_C].mean(1) if occurs_C.any() else np.full(len(names), np.nan)
        metrics = {'APr': float(mean_T.mean()), **dict(zip(names, mean_T.tolist(), strict=True))}
        if self.classwise:
            rows = [['category', 'objects', 'APr', *names]]
            for name, count, ap_T in zip(self.dataset_meta['classes'], objects_C, ap_TC.T, strict=True):
                metrics[f'APr_{name}'] = float(ap_T.mean())
                metrics.update({f'{key}_{name}': float(ap) for key, ap in zip(names, ap_T, strict=True)})
                rows.append([name, str(count), *(f'{value:.3f}' for value in (ap_T.mean(), *ap_T))])
            MMLogger.get_current_instance().info('\n' + AsciiTable(rows).table)
        return metrics
