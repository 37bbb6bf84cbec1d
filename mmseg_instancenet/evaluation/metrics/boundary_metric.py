"""Metric of boundary detection: ODS, OIS and AP."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.registry import METRICS

from ..functional.boundary_counts import boundary_metrics, boundary_thresholds, count_matches


@METRICS.register_module()
class BoundaryMetric(BaseMetric):
    """ODS, OIS and AP of boundaries drawn by several annotators, as the Berkeley benchmark (BSDS500) defines them.

    Reads of each data sample, both at the image's original size: ``pred_boundary.data`` (1, H, W), the probability of a
    boundary in [0, 1], and ``gt_boundaries.data`` (A, H, W) bool, one map an annotator (:class:`LoadBSDSBoundaries`). Returns
    ``boundary/ODS``, ``boundary/OIS``, ``boundary/AP`` and ``boundary/ODS_{threshold,precision,recall}``; the formulas
    are in :func:`boundary_metrics`. A network that finds nothing gets 0, not NaN.

    Non-maximum suppression, which most published results include, is the model's business: here lines are only thinned.

    On the benchmark's own sample of five images and five thresholds it gives ODS .70469, OIS .70871 and AP .30754 where the
    official code gave .70463, .70870 and .30763; thinned maps have the same number of pixels.

    Costs 2 to 11 seconds an image of BSDS500 with 99 thresholds on one core (measured on five images, sharp and blurred),
    hence 10 to 40 minutes for the 200 images of the test set. Each image takes 3 KB of memory until the end.

    Args:
        thresholds: their number, evenly spaced inside (0, 1).
        max_distance: of a match, as a share of the image's diagonal.
        thin: whether to thin the thresholded maps.
        num_workers: processes that share the thresholds of an image; 0 works in this one. They start with the first image,
            import this package (seconds, half a GB each), and end with the evaluation. A script of your own that evaluates with
            them needs ``if __name__ == '__main__':``, as Python's multiprocessing requires.
        **kwargs: ``collect_device``, ``collect_dir``, ``prefix`` of MMEngine's ``BaseMetric``.
    """

    default_prefix = 'boundary'

    def __init__(
        self,
        thresholds: int = 99,
        max_distance: float = 0.0075,
        thin: bool = True,
        num_workers: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < max_distance < 1:
            raise ValueError(
                f'expected max_distance as a share of the diagonal, 0 < max_distance < 1, got {max_distance}'
            )
        self.thresholds_T = boundary_thresholds(thresholds)
        self.max_distance, self.thin, self.num_workers = max_distance, thin, num_workers
        self._executor: ProcessPoolExecutor | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Counts the matches of each image."""
        if self.num_workers > 0 and self._executor is None:
            # Not forked: after CUDA has started, a copy of this process cannot be relied upon.
            self._executor = ProcessPoolExecutor(self.num_workers, get_context('spawn'))
        for sample in data_samples:
            for name, maker in (('pred_boundary', 'the model'), ('gt_boundaries', "dict(type='LoadBSDSBoundaries')")):
                if name not in sample:
                    raise KeyError(f'BoundaryMetric needs {name!r} in each data sample; {maker} puts it there')
            probability_1HW, truth_AHW = sample['pred_boundary']['data'], sample['gt_boundaries']['data']
            if probability_1HW.dim() != 3 or len(probability_1HW) != 1:
                raise ValueError(f'expected pred_boundary of shape (1, H, W), got {tuple(probability_1HW.shape)}')
            self.results.append(
                count_matches(
                    probability_1HW[0].cpu().double().numpy(),
                    truth_AHW.cpu().numpy() != 0,
                    self.thresholds_T,
                    self.max_distance,
                    self.thin,
                    self._executor,
                )
            )

    def evaluate(self, size: int) -> dict[str, float]:
        if self._executor is not None:  # on every process, also where another one computes the metrics
            self._executor.shutdown()
            self._executor = None
        return super().evaluate(size)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Computes ODS, OIS and AP from the counts of all images."""
        if not results:
            MMLogger.get_current_instance().warning('no image was evaluated: every metric of BoundaryMetric is 0')
        counts_ST4 = np.array(results, np.int64).reshape(-1, len(self.thresholds_T), 4)
        return boundary_metrics(counts_ST4, self.thresholds_T)
