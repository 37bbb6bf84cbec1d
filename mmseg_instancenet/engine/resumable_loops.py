"""MMEngine's loops of training, made such that a training that was interrupted goes on exactly."""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from mmseg.registry import LOOPS
from torch import nn
from torch.utils.data import DataLoader

from .seeded_samples import SeededBatches, seed_generators, seeded_loader


def _build_loader(runner: Runner, dataloader: DataLoader | dict) -> DataLoader:
    """Builds the loader as MMEngine's ``BaseLoop`` does, with seeded samples."""
    different = runner._randomness_cfg.get('diff_rank_seed', False)
    return seeded_loader(runner.build_dataloader(dataloader, seed=runner.seed, diff_rank_seed=different), runner.seed)


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """MMEngine's ``EpochBasedTrainLoop`` whose random numbers depend only on the seed and on where the training is.

    - Augmentation draws from generators seeded by (seed, epoch, index of the sample), whatever the number of workers.
    - Everything else in an iteration draws from generators seeded by (seed, iteration, process).
    - A checkpoint within an epoch resumes at the next batch of that epoch. The images before are not read again.

    So no random state has to be stored. On a CPU, with the same threads, a training that was interrupted any number of times ends
    with the weights of one that was not, bit for bit.

    Args:
        runner: MMEngine's.
        dataloader: settings of the data loader, or the loader.
        *args: those of ``EpochBasedTrainLoop``.
        **kwargs: those of ``EpochBasedTrainLoop``.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, _build_loader(runner, dataloader), *args, **kwargs)
        self._skipped = 0

    def run_epoch(self) -> None:
        batches: SeededBatches = self.dataloader.batch_sampler
        batches.pass_number = self._epoch
        batches.skip = self._skipped = self._iter - self._epoch * len(self.dataloader)
        seed_generators(self.runner.seed, self._iter, get_rank())  # samplers of torch draw from the common generator
        super().run_epoch()

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        seed_generators(self.runner.seed, self._iter, get_rank())
        super().run_iter(idx + self._skipped, data_batch)


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """MMEngine's ``IterBasedTrainLoop`` with the random numbers of :class:`ResumableEpochLoop`; the number of passes over the
    data takes the place of the epoch.

    A training that resumes does not read the images again that it has had (MMEngine's reads and drops them).

    Args:
        runner: MMEngine's.
        dataloader: settings of the data loader, or the loader.
        *args: those of ``IterBasedTrainLoop``.
        **kwargs: those of ``IterBasedTrainLoop``.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, _build_loader(runner, dataloader), *args, **kwargs)

    def run(self) -> nn.Module:
        # MMEngine has started a loader at the first batch, and takes as many batches from the iterator as there were iterations.
        self.dataloader_iterator = chain(repeat(None, self._iter), self._batches())
        return super().run()

    def _batches(self) -> Iterator[Sequence[dict]]:
        batches: SeededBatches = self.dataloader.batch_sampler
        sampler = batches.sampler
        if isinstance(sampler, InfiniteSampler):
            sampler.indices = sampler._indices_of_rank()  # MMEngine's loader, above, has taken the first ones
            passes, batches.skip = 0, self._iter
        else:
            passes, batches.skip = divmod(self._iter, len(self.dataloader))
        batches.pass_number = passes
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(passes)
        iterator = _InfiniteDataloaderIterator(self.dataloader)
        iterator._epoch = passes
        yield from iterator

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        seed_generators(self.runner.seed, self._iter, get_rank())
        super().run_iter(data_batch)


def use_resumable_training(config: Config) -> None:
    """Puts the loop of this module and :class:`AtomicCheckpointHook` in the place of MMEngine's, where a config names those or
    leaves them to MMEngine."""
    loop = config.get('train_cfg') or {}
    if 'type' not in loop and 'by_epoch' in loop:  # MMEngine's short form
        loop['type'] = 'EpochBasedTrainLoop' if loop.pop('by_epoch') else 'IterBasedTrainLoop'
    ours = {'EpochBasedTrainLoop': ResumableEpochLoop, 'IterBasedTrainLoop': ResumableIterLoop}
    if loop.get('type') in ours:
        loop['type'] = ours[loop['type']].__name__
    if 'checkpoint' not in config.get('default_hooks', {}):
        config.merge_from_dict(
            {'default_hooks.checkpoint': dict(type='CheckpointHook', interval=1)}
        )  # as MMEngine does
    checkpoint = config.default_hooks.checkpoint
    if checkpoint and checkpoint.get('type') == 'CheckpointHook':
        checkpoint['type'] = 'AtomicCheckpointHook'
