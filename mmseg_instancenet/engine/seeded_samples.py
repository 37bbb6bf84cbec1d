"""Random numbers that depend on the seed and on where a training is, not on what ran before."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from torch.utils.data import DataLoader, Dataset


def seed_generators(*numbers: int) -> None:
    """Seeds the generators of Python, numpy and torch, the one of CUDA among them, from some numbers.

    Args:
        numbers: not negative. Other numbers, or the same in another order, give other seeds.

    Example:
        >>> seed_generators(0, 5)
        >>> first = torch.rand(1)
        >>> seed_generators(0, 5)
        >>> torch.equal(torch.rand(1), first)
        True
    """
    for_python, for_numpy, for_torch = np.random.SeedSequence(numbers).generate_state(3).tolist()
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.manual_seed(for_torch)


class SeededIndex(int):
    """Index of a sample, with the number of the pass over the data in which it is drawn."""

    pass_number: int

    def __new__(cls, index: int, pass_number: int) -> 'SeededIndex':
        new = super().__new__(cls, index)
        new.pass_number = pass_number
        return new

    def __reduce__(self) -> tuple:
        return SeededIndex, (int(self), self.pass_number)


class SeededSamples(Dataset):
    """A data set whose random transforms depend on the seed, the pass over the data and the index of the sample alone.

    Whatever worker or process loads a sample, and whatever was loaded before, the sample is the same; in the next pass it is
    another one. Indices that are no :class:`SeededIndex` are loaded as the data set itself does. All attributes are the data
    set's.

    Args:
        dataset: with transforms that draw from the generators of Python, numpy or torch.
        seed: of the training.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.__dict__.update(dataset=dataset, _seed=seed)

    def __getitem__(self, index: int) -> Any:
        if isinstance(index, SeededIndex):
            seed_generators(self._seed, index.pass_number, int(index))
        return self.dataset[index]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or 'dataset' not in self.__dict__:  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)  # as mmdet's PipelineSwitchHook sets another pipeline


class SeededBatches:
    """The batches of a batch sampler, with :class:`SeededIndex` as indices. A training that resumes may skip batches, of
    which no image is read then. Other attributes are those of the batch sampler.

    Args:
        batch_sampler: torch's, or one with the same methods.
        size: number of samples of the data set.
    """

    def __init__(self, batch_sampler: Any, size: int) -> None:
        self._batch_sampler, self._size = batch_sampler, size
        self.pass_number = 0
        """Of the next pass; counted up by itself. Without effect for an ``InfiniteSampler``, whose passes are counted by its
        samples."""
        self.skip = 0
        """Number of batches that the next pass leaves out at its start."""

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        number, skip = self.pass_number, self.skip
        self.pass_number, self.skip = number + 1, 0
        if isinstance(self.sampler, InfiniteSampler):
            yield from islice(self._endless(), skip, None)
        else:
            for batch in islice(self._batch_sampler, skip, None):
                yield [SeededIndex(index, number) for index in batch]

    def _endless(self) -> Iterator[list[SeededIndex]]:
        position, processes = get_dist_info()  # in the order of all processes, which take turns
        for batch in self._batch_sampler:
            indices = []
            for index in batch:
                indices.append(SeededIndex(index, position // self._size))
                position += processes
            yield indices

    def __len__(self) -> int:
        return len(self._batch_sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or '_batch_sampler' not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._batch_sampler, name)


def seeded_loader(loader: DataLoader, seed: int) -> DataLoader:
    """A data loader of the same samples in the same order, whose random transforms are seeded by :class:`SeededSamples`.

    Args:
        loader: of a data set with indices; its workers are not started.
        seed: of the training.
    """
    samples = SeededSamples(loader.dataset, seed)
    return DataLoader(
        samples,
        batch_sampler=SeededBatches(loader.batch_sampler, len(samples)),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
