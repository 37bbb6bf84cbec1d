"""Metric that writes the report of a test."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmseg.registry import METRICS

from ..evaluation.metrics.mask_metric import ImageMasks, MaskMetric
from ..outputs.atomic_file import atomic_file
from .drawings import ReportImage
from .measures import measure
from .page import render_page


@METRICS.register_module()
class HTMLReport(MaskMetric):
    """Writes one HTML file about a test: AP by class and size, score cut, counts, calibration, images and errors.

    The file holds its style and its images, and needs neither a network nor JavaScript; docs/report.md explains each part. Its
    size is bounded (:mod:`.drawings`): 4 best and 4 worst images, 8 errors of each of four kinds, 10 MB in all.

    The ground truth is that of :class:`CocoInstanceMetric`: the annotation files of the data sets, or ``gt_instance_map`` and
    ``gt_sem_seg``. Images are read again for the drawings, by the process that writes, from ``img_path``. That is the first one
    of several processes, which gets the masks of the others, run-length encoded.

    It has no value for ``save_best``.

    Args:
        out: file that ends in .html, or a folder for report.html. Missing folders are made, an older report is replaced.
        title: of the page.
        facts: lines below the title, by name, as the config and the checkpoint.
        ann_file: COCO json; that of the data set unless given.
        collect_device: see MMEngine's ``BaseMetric``.

    Example, in a config::

        test_evaluator = [dict(type='CocoInstanceMetric'), dict(type='HTMLReport', out='work_dirs/report.html')]
    """

    needs_ann_file = False

    def __init__(
        self,
        out: str | Path,
        title: str = 'Test report',
        facts: Mapping[str, str] | None = None,
        ann_file: str | None = None,
        collect_device: str = 'cpu',
    ) -> None:
        super().__init__(ann_file=ann_file, collect_device=collect_device)
        out = Path(out)
        self.out = out if out.suffix.lower() == '.html' else out / 'report.html'
        self.title, self.facts = title, dict(facts or {})

    def compare(self, masks: ImageMasks, image_id: Any) -> ImageMasks:
        return masks

    def _process_sample(self, data_batch: dict, sample: dict, ann_file: str | None) -> None:
        for key, remedy in {
            'pred_instances': 'a model that finds boundaries has no report; test it without tools/test.py --report',
            'img_path': 'the drawings need the file of the image; keep img_path among the meta_keys of PackInstanceMaps',
        }.items():
            if key not in sample:
                raise ValueError(f'HTMLReport needs {key}, and got {", ".join(sorted(sample))}: {remedy}')
        super()._process_sample(data_batch, sample, ann_file)
        height, width = sample['ori_shape'][:2]
        self.results.append(ReportImage(sample['img_path'], (int(height), int(width)), self.results.pop()))

    def compute_metrics(self, results: list) -> dict[str, Any]:
        """Writes the report; called by MMEngine in the first process only."""
        measures = measure([image.masks for image in results], self.dataset_meta['classes']) if results else None
        facts = {
            **self.facts,
            'date': datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z'),
            'images': str(len(results)),
        }
        if measures:
            facts |= {'objects': str(measures.true_N.sum()), 'detections': str(measures.predicted_N.sum())}
        page = render_page(self.title, facts, results, measures)
        with atomic_file(self.out) as file:
            file.write(page)
        MMLogger.get_current_instance().info(f'report: {self.out}')
        return {}
