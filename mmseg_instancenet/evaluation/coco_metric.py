"""COCO AP, official and uncapped."""

from collections.abc import Sequence
from typing import Optional

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmdet.evaluation import CocoMetric
from mmengine.fileio import get_local_path, load
from mmengine.logging import MMLogger
from mmseg.registry import METRICS

_COCO_LIMIT = 100
"""Detections of a picture and class that COCO's AP looks at."""


@METRICS.register_module()
class CocoInstanceMetric(CocoMetric):
    """mmdet's ``CocoMetric`` with three additions.

    - Without ``ann_file`` it reads that of the data set (:class:`CocoInstanceDataset`), so that a config names it once.
    - ``segm_mAP_all`` stands beside the official ``segm_mAP``: the same average over IoU 0.5:0.05:0.95, without COCO's limit of
      100 detections a picture (nuclei pictures hold hundreds).
    - Where the whole set has no detection, as early in a training, every figure is 0 and has its key, so that
      ``save_best`` works; mmdet returns none.

    Args: those of ``CocoMetric``; ``metric`` is ``['segm', 'bbox']`` unless given.
    """

    def __init__(self, *args, metric: Sequence[str] = ('segm', 'bbox'), **kwargs) -> None:
        super().__init__(*args, metric=[metric] if isinstance(metric, str) else list(metric), **kwargs)

    @property
    def dataset_meta(self) -> Optional[dict]:
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self._dataset_meta = meta
        if self._coco_api is None and 'ann_file' in meta:
            with get_local_path(meta['ann_file'], backend_args=self.backend_args) as path:
                self._coco_api = COCO(path)

    def compute_metrics(self, results: list) -> dict[str, float]:
        self._uncapped: list[dict] = []
        if not any(len(prediction['labels']) for _, prediction in results) and not self.format_only:
            MMLogger.get_current_instance().warning('no instance was found in the whole data set: every AP is 0')
            items = self.metric_items or ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l']
            figures = {f'{metric}_{item}': 0.0 for metric in self.metrics for item in items}
            return dict(figures, segm_mAP_all=0.0) if 'segm' in self.metrics else figures
        figures = super().compute_metrics(results)
        if 'segm' in self.metrics and not self.format_only:
            figures['segm_mAP_all'] = self._mean_ap_of_all() if self._uncapped else figures['segm_mAP']
            MMLogger.get_current_instance().info(
                f"segm_mAP_all (no limit of detections): {figures['segm_mAP_all']:.3f}"
            )
        return figures

    def results2json(self, results: Sequence[dict], outfile_prefix: str) -> dict:
        files = super().results2json(results, outfile_prefix)
        # The files are gone when mmdet is done with them.
        limited = max(len(result['labels']) for result in results) > _COCO_LIMIT
        if 'segm' in files and (limited or 'mAP' not in (self.metric_items or ['mAP'])):
            self._uncapped = load(files['segm'])
        return files

    def _mean_ap_of_all(self) -> float:
        for detection in self._uncapped:
            detection.pop('bbox')  # else COCO takes the box's area for the mask's
        evaluation = COCOeval(self._coco_api, self._coco_api.loadRes(self._uncapped), 'segm')
        parameters = evaluation.params
        parameters.catIds, parameters.imgIds, parameters.iouThrs = self.cat_ids, self.img_ids, self.iou_thrs
        parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], parameters.areaRngLbl[:1]
        parameters.maxDets = [len(self._uncapped)]
        evaluation.evaluate()
        evaluation.accumulate()
        precision = evaluation.eval['precision']
        known = precision > -1
        return round(float(np.mean(precision[known])), 3) if known.any() else 0.0
