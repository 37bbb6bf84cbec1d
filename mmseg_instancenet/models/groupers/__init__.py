from .base import Grouper
from .center import CenterGrouping, group_by_centers
from .class_grouping import ClassGrouping
from .mean_shift import MeanShiftGrouping, group_by_mean_shift

__all__ = ['CenterGrouping', 'ClassGrouping', 'Grouper', 'MeanShiftGrouping', 'group_by_centers', 'group_by_mean_shift']
