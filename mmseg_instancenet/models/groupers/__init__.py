from .base import Grouper
from .center_grouping import CenterGrouping, group_by_centers
from .class_grouping import ClassGrouping
from .connected_components import split_components
from .full_resolution import label_picture
from .group_centers import group_centers

__all__ = [
    'CenterGrouping',
    'ClassGrouping',
    'Grouper',
    'group_by_centers',
    'group_centers',
    'label_picture',
    'split_components',
]
