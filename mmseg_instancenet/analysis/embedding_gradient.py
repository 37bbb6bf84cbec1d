"""Computes the gradient of the loss at the embeddings, through iterations of mean shift (Kong & Fowlkes 2018, figure
5)."""

import numpy as np
import torch
from scipy.ndimage import maximum_filter, minimum_filter
from torch import Tensor, nn

from ..models import MeanShiftGrouping
from ..structures import IGNORED_INSTANCE
from .labelled_embeddings import LabelledEmbeddings, shift_embeddings


def gradient_by_loop(labelled: LabelledEmbeddings, loss: nn.Module, grouping: MeanShiftGrouping, loops: int) -> Tensor:
    r"""Length of the gradient of the loss after t iterations at each initial embedding, for t = 0 .. ``loops``.

    .. math:: \left\| \partial \ell(X^{(t)}) / \partial x^{(0)}_i \right\|_2

    The pixels that ``grouping`` groups, given the true classes, enter kernel and loss; the others are ignored.

    Peak memory: about ten times the embeddings of the grouped pixels for each loop, and that of the loss once.

    Args:
        labelled: an image's embeddings and ground truth.
        loss: a loss on embeddings, such as ``SphericalPairLoss``, without sampling; see :func:`.loss_on_embeddings`.
        grouping: of the loops.
        loops: T >= 0.

    Returns:
        (T + 1, h, w), 0 at pixels that are not grouped.
    """
    region_hw = labelled.regions(grouping)
    grouped_hw = region_hw > 0
    instance_1hw = torch.where(grouped_hw, labelled.instance_hw, IGNORED_INSTANCE)[None]
    x_PD = labelled.embeddings_Dhw[:, grouped_hw].T.detach().requires_grad_()
    norm_Thw = x_PD.new_zeros(loops + 1, *grouped_hw.shape)
    for norm_hw, shifted_PD in zip(
        norm_Thw, shift_embeddings(grouping, x_PD, region_hw[grouped_hw], loops), strict=True
    ):
        map_hwD = shifted_PD.new_zeros(*grouped_hw.shape, x_PD.shape[1]).index_put((grouped_hw,), shifted_PD)
        result = loss(map_hwD.movedim(2, 0)[None], instance_1hw, labelled.class_hw[None])
        (gradient_PD,) = torch.autograd.grad(result[loss.loss_name], x_PD, retain_graph=True)
        norm_hw[grouped_hw] = gradient_PD.norm(dim=1)
    return norm_Thw


def near_another_instance(instance_hw: np.ndarray, radius: int) -> np.ndarray:
    """The pixels that lie within ``radius`` of a pixel of another instance, both not ignored: (h, w) bool.

    Args:
        instance_hw: (h, w) integers, -1 = ignored; any other number is an instance, also 0.
        radius: >= 1, pixels, Euclidean.

    Example:
        >>> near_another_instance(np.array([[4, 4, 4, 7, -1, 9]]), radius=1)
        array([[False, False,  True,  True, False, False]])
    """
    if radius < 1:
        raise ValueError(f'expected a radius >= 1 pixel, got {radius}')
    offset = np.arange(-radius, radius + 1)
    disc = offset[:, None] ** 2 + offset[None, :] ** 2 <= radius**2
    known = instance_hw != IGNORED_INSTANCE
    largest = maximum_filter(np.where(known, instance_hw, IGNORED_INSTANCE), footprint=disc, mode='nearest')
    above = int(instance_hw.max()) + 1
    smallest = minimum_filter(np.where(known, instance_hw, above), footprint=disc, mode='nearest')
    return known & ((largest != instance_hw) | (smallest != instance_hw))
