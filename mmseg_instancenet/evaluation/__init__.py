from .metrics.boundary_metric import BoundaryMetric
from .metrics.coco_metric import CocoInstanceMetric
from .metrics.counting_metric import CountingMetric
from .metrics.detections_dump import DetectionsDump
from .metrics.iou_metric import ForegroundIoUMetric
from .metrics.proposal_recall_metric import ProposalRecallMetric
from .metrics.region_average_precision_metric import RegionAveragePrecisionMetric
from .metrics.trimap_iou_metric import TrimapIoUMetric

__all__ = [
    'BoundaryMetric',
    'CocoInstanceMetric',
    'CountingMetric',
    'DetectionsDump',
    'ForegroundIoUMetric',
    'ProposalRecallMetric',
    'RegionAveragePrecisionMetric',
    'TrimapIoUMetric',
]
