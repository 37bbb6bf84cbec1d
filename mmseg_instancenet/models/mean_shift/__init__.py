"""Mean shift, shared by RecurrentLoss and MeanShiftGrouping: iterations, merging of dense clusters, merging of modes."""

from .iteration import mean_shift
from .modes import merge_modes

__all__ = ['mean_shift', 'merge_modes']
