"""Trainings without an iteration or with a batch of one image, recognised by their sizes."""

from types import SimpleNamespace

import mmengine.dataset.sampler
import pytest
from mmdet.datasets.samplers import AspectRatioBatchSampler, MultiSourceSampler
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

import mmseg_instancenet.engine.training_batches
from mmseg_instancenet.engine.training_batches import batch_of_one, check_batches


class Images(list):
    """A data set with a given number of images."""

    def __init__(self, count):
        super().__init__(range(count))

    def get_data_info(self, index):
        return {'width': 1 + index % 2, 'height': 1}


def make_loop(count, batch_size, drop_last, by_epoch=True, sampler=DefaultSampler, by_shape=False):
    images = Images(count)
    sampler = sampler(images)
    if by_shape:
        batches = AspectRatioBatchSampler(sampler, batch_size, drop_last)
        loader = DataLoader(images, batch_sampler=batches, collate_fn=list)
    else:
        loader = DataLoader(images, batch_size, sampler=sampler, drop_last=drop_last, collate_fn=list)
    runner = SimpleNamespace(visualizer=SimpleNamespace())
    return EpochBasedTrainLoop(runner, loader, 1) if by_epoch else IterBasedTrainLoop(runner, loader, 1)


def sizes(loop):
    return [len(batch) for batch in loop.dataloader]


@pytest.fixture
def in_processes(monkeypatch):
    """Simulates a training in several processes, as the first or the last of them."""

    def set_processes(count, rank=0):
        monkeypatch.setattr(mmengine.dataset.sampler, 'get_dist_info', lambda: (rank, count))
        monkeypatch.setattr(mmseg_instancenet.engine.training_batches, 'get_world_size', lambda: count)

    return set_processes


@pytest.mark.parametrize('by_shape', [False, True])
@pytest.mark.parametrize('by_epoch', [False, True])
@pytest.mark.parametrize(('count', 'batch_size'), [(4, 5), (1, 2), (7, 64)])
def test_a_batch_larger_than_the_set(count, batch_size, by_epoch, by_shape):
    loop = make_loop(count, batch_size, True, by_epoch, by_shape=by_shape)
    assert sizes(loop) == []
    message = (
        f'no iteration: {count} images in the training set, batch_size={batch_size}, drop_last=True. .* at most {count}'
    )
    with pytest.raises(ValueError, match=message):
        check_batches(loop)
    check_batches(make_loop(count, batch_size, False, by_epoch))
    check_batches(make_loop(count, count, True, by_epoch))


@pytest.mark.parametrize(('count', 'batch_size', 'processes', 'each'), [(12, 4, 4, 3), (6, 2, 8, 1), (10, 6, 2, 5)])
def test_images_that_several_processes_share(in_processes, count, batch_size, processes, each):
    assert sizes(make_loop(count, batch_size, True))  # enough for one
    for rank in (0, processes - 1):
        in_processes(processes, rank)
        loop = make_loop(count, batch_size, True)
        assert sizes(loop) == []
        message = (
            f'{count} images in the training set, {each} of them for each of {processes} processes, .* at most {each}'
        )
        with pytest.raises(ValueError, match=message):
            check_batches(loop)
        check_batches(make_loop(count, each, True))


@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_set_without_images(by_epoch):
    with pytest.raises(ValueError, match='expected images in the training set, got none: .*filter_cfg'):
        check_batches(make_loop(0, 2, False, by_epoch))


@pytest.mark.parametrize('count', [1, 4, 9])
def test_samplers_without_an_end(count):
    """In a loop of iterations their batches are full; an epoch of them never ends."""
    loop = make_loop(count, 5, True, by_epoch=False, sampler=InfiniteSampler)
    check_batches(loop)
    assert len(next(iter(loop.dataloader))) == 5 and batch_of_one(loop) is None
    with pytest.raises(ValueError, match='an epoch never ends with InfiniteSampler: expected DefaultSampler'):
        check_batches(make_loop(count, 5, False, sampler=InfiniteSampler))


def test_an_unknown_sampler():
    """Its length does not tell whether it ends."""

    class Endless(MultiSourceSampler):
        def __init__(self, images):
            self.images = images

        def __len__(self):
            return len(self.images)

        def __iter__(self):
            while True:
                yield from self.images

    loop = make_loop(3, 4, True, by_epoch=False, sampler=Endless)
    check_batches(loop)
    assert len(next(iter(loop.dataloader))) == 4
    assert batch_of_one(make_loop(5, 4, False, by_epoch=False, sampler=Endless)) is None


@pytest.mark.parametrize('by_shape', [False, True])
@pytest.mark.parametrize('drop_last', [False, True])
@pytest.mark.parametrize('processes', [1, 2, 3])
@pytest.mark.parametrize('batch_size', [1, 2, 3, 4])
def test_a_batch_of_one_is_found_before_the_training(in_processes, processes, batch_size, drop_last, by_shape):
    found = set()
    for count in range(1, 14):
        in_processes(processes, processes - 1)
        loop = make_loop(count, batch_size, drop_last, by_shape=by_shape)
        single = batch_of_one(loop)
        if by_shape and drop_last and batch_size > 1:
            assert single is None  # mmdet's sampler drops what does not fill a batch
        elif sizes(loop):
            assert (single is not None) == (1 in sizes(loop))
        found.add(single is not None)
    assert found == ({True} if batch_size == 1 else {False} if drop_last else {False, True})
