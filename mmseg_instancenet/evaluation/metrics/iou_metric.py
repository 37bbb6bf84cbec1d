"""mmseg's IoU metric for data sets whose list of classes has no background."""

from collections.abc import Sequence
from typing import Any

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
    def dataset_meta(self) -> Any:  # as MMEngine's: None until the runner has set it
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self._dataset_meta = dict(meta, classes=('background', *meta['classes']))

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        if not all(sample.get('background', True) for sample in data_samples):
            raise ValueError(
                'ForegroundIoUMetric: expected class maps in which 0 is the background, got those of a model with '
                "background=False; use mmseg's IoUMetric"
            )
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not results and not self.format_only:
            MMLogger.get_current_instance().warning('no image was evaluated: the class IoU is NaN')
            results = [(torch.zeros(len(self.dataset_meta['classes'])),) * 4]  # no pixel of any class
        return super().compute_metrics(results)
