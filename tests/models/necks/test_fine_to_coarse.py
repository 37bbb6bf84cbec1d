"""The neck that reverses the order of feature maps."""

import torch
from mmseg.registry import MODELS


def test_order_is_turned_round():
    neck = MODELS.build({'type': 'FineToCoarse'})
    maps = [torch.zeros(1, 2, size, size) for size in (4, 8, 16)]
    result = neck(maps)
    assert isinstance(result, tuple)
    assert all(a is b for a, b in zip(result, maps[::-1], strict=True))
    assert len(result) == 3
