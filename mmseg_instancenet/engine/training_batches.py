"""Checks of the number of images in the batches of a training."""

from typing import Any

from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import RandomSampler, SequentialSampler


def check_batches(loop: BaseLoop) -> None:
    """Raises ValueError for a training without iterations, or with an endless epoch; the message gives the numbers.

    Args:
        loop: MMEngine's loop of a training, built. Each of several processes has its own share of the images.
    """
    loader, by_epoch = loop.dataloader, isinstance(loop, EpochBasedTrainLoop)
    sampler = _sampler(loop)
    if isinstance(sampler, InfiniteSampler):
        if by_epoch:
            raise ValueError(
                'an epoch never ends with InfiniteSampler: expected DefaultSampler in train_dataloader for an '
                "EpochBasedTrainLoop, or train_cfg=dict(type='IterBasedTrainLoop', max_iters=...)"
            )
        return
    # An unknown sampler may be endless, whatever its length.
    if not (by_epoch or _ends(loop)) or len(loader):
        return
    if len(loader.dataset) == 0:
        raise ValueError(
            'expected images in the training set, got none: look at ann_file, indices and filter_cfg of train_dataloader.dataset'
        )
    processes = f', {len(sampler)} of them for each of {get_world_size()} processes' if get_world_size() > 1 else ''
    raise ValueError(
        f'a training of no iteration: {len(loader.dataset)} images in the training set{processes}, '
        f'batch_size={_batch_size(loop)}, drop_last=True. Expected train_dataloader.batch_size of at most {len(sampler)}, or '
        'drop_last=False'
    )


def batch_of_one(loop: BaseLoop) -> str | None:
    """The reason why a training has batches of one image; ``None`` if all batches are larger, or their size is unknown.

    Args:
        loop: as for :func:`check_batches`.
    """
    size, sampler = _batch_size(loop), _sampler(loop)
    if size == 1:
        return 'train_dataloader.batch_size=1'
    if (
        size
        and _ends(loop)
        and not getattr(loop.dataloader.batch_sampler, 'drop_last', True)
        and len(sampler) % size == 1
    ):
        return f'{len(sampler)} images in batches of {size}, the last of which has one, as drop_last=False'
    return None


def _sampler(loop: BaseLoop) -> Any:
    return getattr(loop.dataloader.batch_sampler, 'sampler', loop.dataloader.sampler)


def _batch_size(loop: BaseLoop) -> int | None:
    return getattr(loop.dataloader.batch_sampler, 'batch_size', loop.dataloader.batch_size)


def _ends(loop: BaseLoop) -> bool:
    return isinstance(_sampler(loop), (DefaultSampler, RandomSampler, SequentialSampler))
