"""Neck that reverses the order of feature maps."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class FineToCoarse(BaseModule):
    """Reverses the order of feature maps: mmseg's UNet returns the coarsest first, its decode heads expect the finest
    first."""

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(reversed(features))
