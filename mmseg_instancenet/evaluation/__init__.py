from .metrics import (
    BoundaryMetric,
    CocoInstanceMetric,
    CountingMetric,
    DetectionsDump,
    ForegroundIoUMetric,
    ProposalRecallMetric,
    RegionAveragePrecisionMetric,
    TrimapIoUMetric,
)

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
