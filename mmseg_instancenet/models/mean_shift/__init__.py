"""What RecurrentLoss and MeanShiftGrouping share: iterations of mean shift, and groups from where they end."""

from .iteration import mean_shift
from .modes import merge_modes

__all__ = ['mean_shift', 'merge_modes']
