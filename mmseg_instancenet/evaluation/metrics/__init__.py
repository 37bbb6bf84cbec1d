from .boundary_metric import BoundaryMetric
from .coco_metric import CocoInstanceMetric
from .counting_metric import CountingMetric
from .detections_dump import DetectionsDump
from .iou_metric import ForegroundIoUMetric
from .proposal_recall_metric import ProposalRecallMetric
from .region_average_precision_metric import RegionAveragePrecisionMetric
from .trimap_iou_metric import TrimapIoUMetric

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
