"""Data sets inside the wrappers of MMEngine and mmdet: joined, repeated, balanced, mixed."""

from collections.abc import Callable, Sized
from typing import Any

from torch.utils.data import Dataset


def inner_sets(dataset: Dataset | Sized) -> list[Any]:
    """The data sets that a wrapper holds; none where the data set reads images itself.

    Args:
        dataset: ``ConcatDataset``, ``RepeatDataset``, ``ClassBalancedDataset``, ``MultiImageMixDataset``, or no wrapper.
    """
    if hasattr(dataset, 'datasets'):
        return list(dataset.datasets)
    return [dataset.dataset] if hasattr(dataset, 'dataset') else []


def transforms_of(dataset: Dataset) -> list[list[Callable[[dict], Any]]]:
    """For each data set that reads images, all transforms that its images go through, in their order; those of a
    ``MultiImageMixDataset`` come after those of the set that it holds."""
    pipeline = getattr(dataset, 'pipeline', ())
    own = list(getattr(pipeline, 'transforms', pipeline))
    inner = inner_sets(dataset)
    if not inner:
        return [own]
    return [[*before, *own] for one in inner for before in transforms_of(one)]


def repeats_images(dataset: Sized) -> bool:
    """Whether one pass through a data set meets an image more than once, as in ``RepeatDataset``."""
    inner = inner_sets(dataset)
    return len(dataset) > sum(map(len, inner)) > 0 or any(map(repeats_images, inner))
