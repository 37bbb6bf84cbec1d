"""Draws pairs of pixels of one and of two instances, and computes their similarities (Kong & Fowlkes 2018, figure 12)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class PixelPairs(NamedTuple):
    """Pairs of pixels, (M, 2) each: of one instance, and of two instances."""

    positive_M2: Tensor
    negative_M2: Tensor


def draw_pairs(instance_P: Tensor, region_P: Tensor, count: int, generator: torch.Generator) -> PixelPairs:
    """Draws pairs of pixels at random, with replacement; every instance has the same weight, as in the pair loss.

    A positive pair: an instance, then two of its pixels. A negative pair: two instances of one region, then a pixel of each.

    Args:
        instance_P: (P,) instance of each pixel.
        region_P: (P,) regions; a negative pair lies in one.
        count: pairs of each kind; none where there is no such pair.
        generator: on the CPU.

    Example:
        >>> pairs = draw_pairs(torch.tensor([7, 7, 9]), torch.tensor([1, 1, 1]), 5, torch.Generator().manual_seed(0))
        >>> pairs.positive_M2.shape, sorted(set(map(tuple, pairs.negative_M2.sort(dim=1).values.tolist())))
        (torch.Size([5, 2]), [(0, 2), (1, 2)])
    """
    if len(instance_P) == 0:
        return PixelPairs(torch.empty(0, 2, dtype=torch.long), torch.empty(0, 2, dtype=torch.long))
    key_K2, instance_P = torch.stack([region_P.cpu(), instance_P.cpu()], dim=1).unique(dim=0, return_inverse=True)
    pixel_P = instance_P.argsort()
    size_K = torch.bincount(instance_P)
    start_K = size_K.cumsum(0) - size_K
    of_one_region_KK = key_K2[:, 0, None] == key_K2[None, :, 0]
    of_two_L2 = (of_one_region_KK & ~torch.eye(len(key_K2), dtype=torch.bool)).nonzero()
    of_one_L2 = torch.arange(len(key_K2))[:, None].expand(-1, 2)

    def draw(instances_L2: Tensor) -> Tensor:
        if len(instances_L2) == 0:
            return torch.empty(0, 2, dtype=torch.long)
        instance_M2 = instances_L2[torch.randint(len(instances_L2), (count,), generator=generator)]
        share_M2 = torch.rand(count, 2, dtype=torch.float64, generator=generator)
        return pixel_P[start_K[instance_M2] + (share_M2 * size_K[instance_M2]).long()]

    return PixelPairs(draw(of_one_L2), draw(of_two_L2))


def calibrated_similarities(x_PD: Tensor, pairs_M2: Tensor) -> Tensor:
    r"""Equation 1 of the paper for M pairs of embeddings, :math:`s_{ij} = \frac12 (1 + \cos(x_i, x_j))`: (M,) in [0, 1].

    Example:
        >>> x = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]])
        >>> calibrated_similarities(x, torch.tensor([[0, 0], [0, 1], [0, 2]]))
        tensor([1.0000, 0.5000, 0.0000])
    """
    first_MD, second_MD = x_PD[pairs_M2.to(x_PD.device)].unbind(1)
    return (1 + F.cosine_similarity(first_MD, second_MD, dim=1)) / 2
