"""Baseline: groups from the class map alone, without embeddings."""

import torch
from mmseg.registry import MODELS
from torch import Tensor

from .base import Grouper


@MODELS.register_module()
class ClassGrouping(Grouper):
    """Makes one group of each class, or with ``connected=True`` of each connected component of a class.

    Groupings by embeddings have to be better than this. Args: those of :class:`Grouper`.

    Example:
        >>> ClassGrouping(connected=True)(torch.zeros(1, 1, 3), torch.tensor([[2, 0, 2]]))
        tensor([[1, 0, 2]])
    """

    def group(self, x_ND: Tensor) -> Tensor:
        return torch.ones(len(x_ND), dtype=torch.long, device=x_ND.device)
