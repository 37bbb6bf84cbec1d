"""Access to data sets inside the wrappers of MMEngine and mmdet: joined, repeated, balanced, mixed."""

from collections.abc import Callable, Sized
from typing import Any

from torch.utils.data import Dataset


def inner_sets(dataset: Dataset | Sized) -> list[Any]:
    """The data sets inside a wrapper; an empty list for a data set without inner ones.

    Args:
        dataset: ``ConcatDataset``, ``RepeatDataset``, ``ClassBalancedDataset``, ``MultiImageMixDataset``, or no wrapper.
    """
    if hasattr(dataset, 'datasets'):
        return list(dataset.datasets)
    return [dataset.dataset] if hasattr(dataset, 'dataset') else []


def transforms_of(dataset: Dataset) -> list[list[Callable[[dict], Any]]]:
    """For each data set that reads images, all transforms of its images in order; those of a ``MultiImageMixDataset``
    follow those of its inner set."""
    pipeline = getattr(dataset, 'pipeline', ())
    own = list(getattr(pipeline, 'transforms', pipeline))
    inner = inner_sets(dataset)
    if not inner:
        return [own]
    return [[*before, *own] for one in inner for before in transforms_of(one)]


def repeats_images(dataset: Sized) -> bool:
    """Whether one epoch over a data set reads an image more than once, as with ``RepeatDataset``."""
    inner = inner_sets(dataset)
    return len(dataset) > sum(map(len, inner)) > 0 or any(map(repeats_images, inner))
