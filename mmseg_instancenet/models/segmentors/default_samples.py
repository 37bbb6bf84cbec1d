"""Data samples of images that come without them."""

from mmdet.structures import DetDataSample
from torch import Tensor

from ...structures import map_size


def samples_of(inputs: Tensor, data_samples: list[DetDataSample] | None) -> list[DetDataSample]:
    """The data samples, or those of images (N, 3, height, width) that were neither resized nor padded."""
    if data_samples is not None:
        return data_samples
    size = tuple(map(int, map_size(inputs)))  # no tensors, as sizes are while torch.jit traces
    return [DetDataSample(metainfo={'ori_shape': size, 'img_shape': size}) for _ in inputs]
