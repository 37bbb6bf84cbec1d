from .base import Grouper
from .center_grouping import CenterGrouping, group_by_centers
from .class_grouping import ClassGrouping
from .connected_components import split_components
from .full_resolution import label_picture
from .group_centers import group_centers
from .mean_shift import mean_shift
from .mean_shift_grouping import MeanShiftGrouping, group_by_mean_shift
from .modes import merge_modes

__all__ = [
    'CenterGrouping',
    'ClassGrouping',
    'Grouper',
    'MeanShiftGrouping',
    'group_by_centers',
    'group_by_mean_shift',
    'group_centers',
    'label_picture',
    'mean_shift',
    'merge_modes',
    'split_components',
]
