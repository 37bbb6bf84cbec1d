"""Lists the names of a metric's values before the evaluation."""

from collections.abc import Callable, Iterable, Iterator
from numbers import Real

from mmdet.evaluation import CocoMetric, CocoPanopticMetric
from mmengine.evaluator import BaseMetric, DumpResults
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric

from .metrics.boundary_metric import BoundaryMetric
from .metrics.coco_metric import CocoInstanceMetric
from .metrics.counting_metric import CountingMetric
from .metrics.iou_metric import ForegroundIoUMetric
from .metrics.proposal_recall_metric import ProposalRecallMetric
from .metrics.region_average_precision_metric import RegionAveragePrecisionMetric
from .metrics.trimap_iou_metric import TrimapIoUMetric


def metric_names(metrics: Iterable[BaseMetric]) -> set[str] | None:
    """The names, with prefix, of the values that some metrics can return; ``None`` if a metric is unknown.

    Known are the metrics of this package, mmdet's ``CocoMetric`` and ``CocoPanopticMetric``, mmseg's ``IoUMetric`` and those that
    write files. A class that inherits from one of them may give other values and is not known.

    Args:
        metrics: built, with the ``dataset_meta`` of the data that they will see. A metric that has none, or a list of several
            (joined data sets), is not known.

    Example:
        >>> metric = CocoInstanceMetric(metric_items=['mAP'], prefix='nuclei')
        >>> metric.dataset_meta = {'classes': ('nucleus',)}
        >>> sorted(metric_names([metric]))
        ['nuclei/bbox_mAP', 'nuclei/segm_mAP', 'nuclei/segm_mAP_all']
    """
    found: set[str] = set()
    for metric in metrics:
        if isinstance(metric, DumpResults):
            continue
        names_of = _NAMES.get(type(metric))
        if names_of is None or not isinstance(metric.dataset_meta, dict):
            return None
        found.update(f'{metric.prefix}/{name}' if metric.prefix else name for name in names_of(metric))
    return found


def _coco(metric: CocoMetric) -> Iterator[str]:
    if metric.format_only:
        return
    of_kind = {
        'bbox': ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'),
        'proposal': ('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000'),
    }
    of_kind['segm'] = of_kind['bbox']
    for kind in metric.metrics:
        if kind == 'proposal_fast':
            yield from (f'AR@{number}' for number in metric.proposal_nums)
            continue
        items = of_kind[kind] if metric.metric_items is None else metric.metric_items
        yield from items if kind == 'proposal' else (f'{kind}_{item}' for item in items)
        if metric.classwise and kind != 'proposal':
            yield from (f'{name}_precision' for name in metric.dataset_meta['classes'])


def _coco_instance(metric: CocoInstanceMetric) -> Iterator[str]:
    yield from _coco(metric)
    if 'segm' in metric.metrics and not metric.format_only:
        yield 'segm_mAP_all'


def _panoptic(metric: CocoPanopticMetric) -> Iterator[str]:
    if not metric.format_only:
        yield from (f'{name}{of}' for name in ('PQ', 'SQ', 'RQ') for of in ('', '_th', '_st'))


def _iou(metric: IoUMetric) -> Iterator[str]:
    if metric.format_only:
        return
    yield 'aAcc'
    of_kind = {'mIoU': ('mIoU', 'mAcc'), 'mDice': ('mDice', 'mAcc'), 'mFscore': ('mFscore', 'mPrecision', 'mRecall')}
    for kind in [metric.metrics] if isinstance(metric.metrics, str) else metric.metrics:
        yield from of_kind[kind]


def _of_no_image(metric: BaseMetric) -> Iterator[str]:
    """The names of the values that a metric returns when no image was evaluated; curves are left out."""
    logger = MMLogger.get_current_instance()
    before, logger.disabled = logger.disabled, True  # it would report that no image was evaluated
    try:
        values = metric.compute_metrics([])
    finally:
        logger.disabled = before
    yield from (name for name, value in values.items() if isinstance(value, Real))


_NAMES: dict[type[BaseMetric], Callable[[BaseMetric], Iterable[str]]] = {
    CocoMetric: _coco,
    CocoInstanceMetric: _coco_instance,
    CocoPanopticMetric: _panoptic,
    IoUMetric: _iou,
    ForegroundIoUMetric: _iou,
    BoundaryMetric: _of_no_image,
    CountingMetric: _of_no_image,
    ProposalRecallMetric: _of_no_image,
    RegionAveragePrecisionMetric: _of_no_image,
    TrimapIoUMetric: _of_no_image,
}
