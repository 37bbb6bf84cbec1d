"""Sums over the processes of a training, for losses that are a ratio of sums over the batch."""

from mmengine.dist import all_reduce, get_world_size
from torch import Tensor


def sum_over_processes(own: Tensor) -> Tensor:
    r"""The sum of a tensor over all processes of a training; the tensor itself in one process.

    A loss that is a mean over N images needs no such sum: each of R processes has N / R of them, and DistributedDataParallel
    averages the gradients. A ratio of sums over the batch, such as a mean over the pixels with a label, is not the mean of the
    ratios of its parts. With the sums of all processes in it, :math:`L = f(\sum_r x_r)`, each process gets the gradient

    .. math:: R \, f'\Big(\sum_r x_r\Big) \frac{\partial x_r}{\partial \theta}

    whose mean over the processes is the gradient of L. One reduction of the tensor, none in the backward pass. Every process has
    to call it, also one without a pixel that counts.

    Args:
        own: floating point of any shape, the same shape in all processes.

    Example:
        >>> import torch
        >>> sum_over_processes(torch.tensor([3.0, 4.0]))  # in one process
        tensor([3., 4.])
    """
    count = get_world_size()
    if count == 1:
        return own
    total = own.detach().clone()
    all_reduce(total)
    return count * own + (total - count * own.detach())
