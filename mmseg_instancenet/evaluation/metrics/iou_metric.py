"""mmseg's IoU for data sets whose list of classes has no background."""

import torch
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class ForegroundIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric`` on class maps in which 0 is the background and class k of the data set is k + 1.

    COCO's list of classes does not contain the background; without it mmseg would count classes one too low and
    leave the last one out. Where no image was evaluated every metric is NaN. Args: those of ``IoUMetric``.
    """

    @property
    def dataset_meta(self) -> dict | None:
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self._dataset_meta = dict(meta, classes=('background', *meta['classes']))

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not results and not self.format_only:
            MMLogger.get_current_instance().warning('no image was evaluated: the class IoU is NaN')
            results = [(torch.zeros(len(self.dataset_meta['classes'])),) * 4]  # no pixel of any class
        return super().compute_metrics(results)
