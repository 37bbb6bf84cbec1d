"""Random batches for hypothesis: small maps in which every pixel is drawn by itself, ids with gaps, ignored pixels, few or many
values an embedding. Values come from a seed that hypothesis draws, so that they have no structure."""

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

IDS = (-1, 0, 1, 4, 255, 300, 65535)
CLASSES = (1, 2, 7, 255)


class Batch(NamedTuple):
    """Embeddings (N, D, H, W) float64, instance map and class map (N, H, W)."""

    x: Tensor
    ids: Tensor
    classes: Tensor


@st.composite
def batches(draw, least_dims=2, most_pixels=6) -> Batch:
    """One to three images of one to ``most_pixels`` pixels a side, all of them possibly ignored, or background, or one object."""
    generator = generators(draw)
    images, height, width = draw(st.integers(1, 3)), *(draw(st.integers(1, most_pixels)) for _ in range(2))
    ids = torch.tensor(draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=5, unique=True)))
    classes = torch.tensor(draw(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=3, unique=True)))
    shape = (images, height, width)
    size = draw(st.sampled_from([0.1, 1.0, 3.0]))
    x = size * torch.randn(images, draw(st.integers(least_dims, 5)), height, width, generator=generator).double()
    ids = ids[torch.randint(len(ids), shape, generator=generator)]
    classes = classes[torch.randint(len(classes), shape, generator=generator)]
    return Batch(x, ids, torch.where((ids == 0) & (classes != 255), 0, classes))


def generators(draw) -> torch.Generator:
    """A source of random numbers from a seed that hypothesis draws."""
    return torch.Generator().manual_seed(draw(st.integers(0, 2**31)))


def seeds() -> st.SearchStrategy:
    """Random numbers besides those of a batch."""
    return st.integers(0, 2**31).map(lambda seed: torch.Generator().manual_seed(seed))


def rotation(dims: int, generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix (D, D) float64."""
    return torch.linalg.qr(torch.randn(dims, dims, generator=generator, dtype=torch.float64))[0]


def permuted(batch: Batch, generator: torch.Generator) -> tuple[Batch, Tensor]:
    """The same pixels of each image in another order, and that order (H x W,)."""
    order = torch.randperm(batch.ids[0].numel(), generator=generator)
    return Batch(*(value.flatten(-2)[..., order].view(value.shape) for value in batch)), order
