"""Computes the sizes of an image in training: of the network's input, and of the map of its embeddings."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform, RandomChoiceResize, RandomResize, Resize
from mmengine.config import ConfigDict
from mmengine.utils import is_list_of
from mmseg.registry import MODELS

from ..datasets.annotations.object_statistics import Grids, Size
from ..models import EmbeddingSegmentor

_PROBE = 256
"""Side of the image by which the stride of a network is measured, in pixels; a multiple of the stride of any backbone."""


class TrainingGrids:
    """Computes the sizes of network input and embedding map for an image of any size.

    Resizing is that of the pipeline. Of ``RandomResize`` it is the scale at a ratio of 1 (of two scales the second), of
    ``RandomChoiceResize`` the middle one of its scales; other random changes of scale, crops and padding are left out.

    Args:
        steps: of the pipeline.
        stride: of the embeddings in the input, as :func:`embedding_stride` gives it.

    Example:
        >>> from mmcv.transforms import Resize
        >>> TrainingGrids([Resize(scale=(512, 512), keep_ratio=True)], stride=4)((100, 200))
        Grids(input=(256, 512), map=(64, 128))
    """

    def __init__(self, steps: Sequence[BaseTransform], stride: float) -> None:
        self.steps = [resize for resize in map(_resize_of, steps) if resize is not None]
        self.stride = stride
        self._cached = lru_cache(maxsize=None)(self._of)

    def __call__(self, size: Size) -> Grids:
        return self._cached(tuple(size))

    def _of(self, size: Size) -> Grids:
        results: dict[str, Any] = {'img': np.zeros(size, np.uint8), 'img_shape': size}
        for resize in self.steps:
            results = resize(results)
        height, width = results['img'].shape[:2]
        return Grids((height, width), (math.ceil(height / self.stride), math.ceil(width / self.stride)))


def _resize_of(step: BaseTransform) -> Resize | None:
    """The resize transform of a pipeline step, at one scale; ``None`` for a step that does not resize."""
    if isinstance(step, Resize):
        return step
    if isinstance(step, RandomChoiceResize):
        scale = step.scales[len(step.scales) // 2]
    elif isinstance(step, RandomResize):
        scale = step.scale[-1] if is_list_of(step.scale, tuple) else step.scale
    else:
        return None
    step.resize.scale = scale
    return step.resize


def embedding_stride(model: ConfigDict | dict) -> float | None:
    """The stride of a model's embeddings in its input, measured by a forward pass of an empty image through the
    untrained network.

    Args:
        model: config.

    Returns:
        pixels of the input a cell of the map; ``None`` for a model without embeddings.
    """
    if not issubclass(MODELS.get(model['type']), EmbeddingSegmentor):
        return None
    network = MODELS.build(model).eval()
    size = (_PROBE, _PROBE)
    image = torch.zeros(1, model.get('backbone', {}).get('in_channels', 3), *size)
    with torch.no_grad():
        embeddings_NDhw = network.scores_and_embeddings(image, [{'ori_shape': size, 'img_shape': size}])[1]
    return _PROBE / embeddings_NDhw.shape[-1]
