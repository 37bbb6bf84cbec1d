from .coco_metric import CocoInstanceMetric
from .iou_metric import ForegroundIoUMetric

__all__ = ['CocoInstanceMetric', 'ForegroundIoUMetric']
