"""mmseg's IoU for data sets whose list of classes has no background."""

from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class ForegroundIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric`` on class maps in which 0 is the background and class k of the data set is k + 1.

    COCO's list of classes does not contain the background; without it mmseg would count classes one too low and
    leave the last one out. Args: those of ``IoUMetric``.
    """

    @property
    def dataset_meta(self) -> dict | None:
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self._dataset_meta = dict(meta, classes=('background', *meta['classes']))
