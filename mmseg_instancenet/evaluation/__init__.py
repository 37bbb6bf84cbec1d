from .metrics import (
    BoundaryMetric,
    CocoInstanceMetric,
    CountingMetric,
    ForegroundIoUMetric,
    ProposalRecallMetric,
    RegionAveragePrecisionMetric,
    TrimapIoUMetric,
)

__all__ = [
    'BoundaryMetric',
    'CocoInstanceMetric',
    'CountingMetric',
    'ForegroundIoUMetric',
    'ProposalRecallMetric',
    'RegionAveragePrecisionMetric',
    'TrimapIoUMetric',
]
