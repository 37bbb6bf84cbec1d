from .base import Grouper
from .center import CenterGrouping, group_by_centers
from .class_grouping import ClassGrouping
from .mean_shift import MeanShiftGrouping, group_by_mean_shift
from .seeds import SeedGrouping, group_by_seeds

__all__ = [
    'CenterGrouping',
    'ClassGrouping',
    'Grouper',
    'MeanShiftGrouping',
    'SeedGrouping',
    'group_by_centers',
    'group_by_mean_shift',
    'group_by_seeds',
]
