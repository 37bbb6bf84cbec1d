"""Directions of embeddings."""

import math

import torch
from torch import Tensor

SHORTEST = 1e-12
"""A vector shorter than this has no direction that float32 could tell."""


def unit_vectors(x: Tensor, dim: int) -> Tensor:
    r"""Scales vectors to length 1, :math:`x / |x|`; one without direction (shorter than 1e-12) becomes 0.

    The gradient of x / |x| grows with 1 / \|x\|; a vector without direction receives none, or a single pixel at 0 would
    outweigh all others by a factor of 1e12.

    Args:
        x: floating point, of any shape.
        dim: along which a vector lies.

    Example:
        >>> unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), dim=1)
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    length = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x / torch.where(length > SHORTEST, length, math.inf)
