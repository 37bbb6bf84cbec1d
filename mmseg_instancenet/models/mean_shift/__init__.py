"""Mean shift of RecurrentLoss and MeanShiftGrouping: its iterations, and groups of the embeddings at the end."""

from .iteration import mean_shift
from .modes import merge_modes

__all__ = ['mean_shift', 'merge_modes']
