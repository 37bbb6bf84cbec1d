"""Distances in the embedding space."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Literal['norm', 'cosine']


def distance_to(x_ND: Tensor, center_D: Tensor, norm: float, distance: Distance) -> Tensor:
    """Distance of each embedding to a centre, (N,): the norm of the difference, or 1 - cosine."""
    if distance == 'cosine':
        return 1 - F.normalize(x_ND, dim=1) @ F.normalize(center_D, dim=0)
    return torch.linalg.vector_norm(x_ND - center_D, ord=norm, dim=1)


def mean_embedding(x_ND: Tensor, distance: Distance) -> Tensor:
    """Centre of a group, (D,): the mean, over unit vectors where only directions count."""
    return F.normalize(x_ND, dim=1).mean(0) if distance == 'cosine' else x_ND.mean(0)


def check_finite(x: Tensor) -> None:
    """Raises where an embedding is NaN or infinite: no distance to it means anything."""
    if not torch.isfinite(x).all():
        raise ValueError(
            f'expected finite embeddings, got NaN or infinity at {int((~torch.isfinite(x)).sum())} of {x.numel()} values; '
            'the checkpoint comes from a diverged training, or half precision overflowed'
        )
