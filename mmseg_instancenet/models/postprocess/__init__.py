"""From the outputs of the network to scored instances; :mod:`.predict` calls every step, in order."""

from .instances import drop_low_scores, make_instances
from .non_maxima import suppress_non_maxima
from .passes import NetworkPass, View, average_classes
from .predict import ImageGroups, group_image, predict_instances
from .proposals import pool_proposals

__all__ = [
    'ImageGroups',
    'NetworkPass',
    'View',
    'average_classes',
    'drop_low_scores',
    'group_image',
    'make_instances',
    'pool_proposals',
    'predict_instances',
    'suppress_non_maxima',
]
