"""Embeddings: directions, distances, statistics of groups, margins of a loss, and checks."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Distance = Literal['norm', 'cosine']

MIN_LENGTH = 1e-12
"""A vector shorter than this has no direction that float32 resolves."""

_HIGHEST_BANDWIDTH = 40.0
"""Higher bandwidths count as this: exp overflows float32 from 89 on, and infinity times a distance of 0 is NaN. No ordinary value
changes: from here on a soft mask is 0 at any distance above 1e-8, which float32 coordinates do not resolve."""


def bandwidth_precision(bandwidth: Tensor) -> Tensor:
    r"""The factor :math:`1 / 2\sigma^2 = \exp b` of squared distances in a soft mask (Neven et al. 2019), finite for any b.

    Args:
        bandwidth: b, floating point of any shape.

    Example:
        >>> bandwidth_precision(torch.tensor([0.0, 40.0])).tolist() == bandwidth_precision(torch.tensor([0.0, 1e9])).tolist()
        True
    """
    return bandwidth.clamp(max=_HIGHEST_BANDWIDTH).exp()


def single_or_double(x: Tensor) -> Tensor:
    """The values in float32, or in float64 where they are.

    Example:
        >>> single_or_double(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.to(torch.promote_types(x.dtype, torch.float))


def unit_vectors(x: Tensor, dim: int) -> Tensor:
    r"""Scales vectors to length 1, :math:`x / |x|`; a vector shorter than 1e-12 becomes 0, one whose length overflows NaN.

    The gradient of :math:`x / |x|` grows with :math:`1 / |x|`; a vector without direction receives none, or a single
    pixel at 0 would outweigh all others by a factor of 1e12. A length that overflows (from 1.8e19 on in float32) would make a
    direction of 0; NaN is refused by every loss and grouper.

    Args:
        x: floating point, of any shape.
        dim: along which a vector lies.

    Example:
        >>> unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), dim=1)
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    length = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    divisor = torch.where(length > MIN_LENGTH, length, math.inf)
    return x / torch.where(length == math.inf, math.nan, divisor)


def group_means(embeddings_Dhw: Tensor, labels_hw: Tensor, count: int) -> Tensor:
    """Mean embedding of each of the groups 1 .. ``count`` of a label map, (K, D); 0 for a group without a pixel."""
    label_P, x_PD = labels_hw.reshape(-1), embeddings_Dhw.flatten(1).T
    sum_KD = x_PD.new_zeros(count + 1, x_PD.shape[1]).index_add_(0, label_P, x_PD)
    return (sum_KD / torch.bincount(label_P, minlength=count + 1).clamp(min=1)[:, None].to(x_PD))[1:]


class GroupStatistics(NamedTuple):
    """Statistics of the K groups of a map: ``mean_KD`` embedding, ``size_K`` in cells, ``region_K`` of each group, and
    the order of the ``norm`` for distances."""

    mean_KD: Tensor
    size_K: Tensor
    region_K: Tensor
    norm: float = 2.0


def group_statistics(
    embeddings_Dhw: Tensor, labels_hw: Tensor, region_hw: Tensor, norm: float = 2.0
) -> GroupStatistics:
    """Computes the statistics of the groups of a map for scorers and for the assignment of pixels.

    Args:
        embeddings_Dhw: (D, h, w) floating point.
        labels_hw: (h, w) int64: 0 = none, groups 1 .. K without gaps, each within one region.
        region_hw: (h, w) int64 regions in which groups were looked for.
        norm: its order, for those who read the statistics.

    Example:
        >>> labels = torch.tensor([[1, 1, 2]])
        >>> group_statistics(torch.tensor([[[0.0, 2.0, 7.0]]]), labels, torch.tensor([[5, 5, 6]]))
        GroupStatistics(mean_KD=tensor([[1.],
                [7.]]), size_K=tensor([2, 1]), region_K=tensor([5, 6]), norm=2.0)
    """
    label_P = labels_hw.reshape(-1)
    count = int(label_P.max())
    region_K = region_hw.new_zeros(count + 1).index_put_((label_P,), region_hw.reshape(-1))[1:]
    return GroupStatistics(
        group_means(embeddings_Dhw, labels_hw, count), torch.bincount(label_P, minlength=count + 1)[1:], region_K, norm
    )


class EmbeddingMargins(NamedTuple):
    """Distances within an instance and between instances that a loss of zero guarantees.

    Attributes:
        distance: 'norm' for a norm of the difference, 'cosine' for 1 - cos of the angle.
        within: the largest distance of a pixel to the mean of its instance.
        between: the smallest distance between the means of two instances.
    """

    distance: Literal['norm', 'cosine']
    within: float
    between: float


def check_tensors(**values: Tensor | None) -> None:
    """Raises TypeError, with its name, for the first value that is neither a tensor nor ``None``.

    Example:
        >>> check_tensors(embeddings=[[0.0]])
        Traceback (most recent call last):
        TypeError: expected embeddings as a torch.Tensor, got list; torch.from_numpy makes one of an array
    """
    for name, value in values.items():
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f'expected {name} as a torch.Tensor, got {type(value).__name__}; torch.from_numpy makes one of an array'
            )


def check_finite(x: Tensor, name: str = 'embeddings') -> None:
    """Raises ValueError if a value is NaN or infinite: no distance to it, and no probability, means anything.

    Args:
        x: floating point of any shape.
        name: of the values, for the message.
    """
    if not torch.isfinite(x).all():
        raise ValueError(
            f'expected finite {name}, got NaN or infinity at {int((~torch.isfinite(x)).sum())} of {x.numel()} values; '
            'the checkpoint comes from a diverged training, or half precision overflowed'
        )


def check_embeddings(embeddings_NDHW: Tensor, instance_map_NHW: Tensor) -> None:
    """Raises ValueError unless the embeddings are (N, D, H, W) floats and the instance map is (N, H, W), TypeError unless both
    are tensors."""
    check_tensors(embeddings=embeddings_NDHW, instance_map=instance_map_NHW)
    if embeddings_NDHW.dim() != 4 or not embeddings_NDHW.is_floating_point():
        raise ValueError(
            f'expected floating point embeddings (N, D, H, W), got {tuple(embeddings_NDHW.shape)} {embeddings_NDHW.dtype}'
        )
    num_images, _, height, width = embeddings_NDHW.shape
    if instance_map_NHW.shape != (num_images, height, width):
        stacked = instance_map_NHW.shape == (num_images, 1, height, width)
        raise ValueError(
            f'expected an instance map {(num_images, height, width)} for embeddings {tuple(embeddings_NDHW.shape)}, got '
            f'{tuple(instance_map_NHW.shape)}; '
            + (
                'mmseg stacks label maps with an axis of length 1: give map.squeeze(1)'
                if stacked
                else 'resize the label maps with mmseg_instancenet.structures.resize_labels'
            )
        )


def zero_loss(embeddings: Tensor) -> Tensor:
    """A zero that depends on every embedding: ignored pixels stay in the graph, and every parameter gets a gradient.

    Raises:
        ValueError: if an embedding is NaN or infinite.
    """
    zero = embeddings.sum() * 0
    if not torch.isfinite(zero):
        raise ValueError(
            'expected finite embeddings, got NaN or infinity; the training has diverged: lower the learning rate, or clip '
            'gradients with optim_wrapper.clip_grad=dict(max_norm=...)'
        )
    return zero
