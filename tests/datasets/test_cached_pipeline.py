"""A pipeline with memory gives the samples of one without."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmseg_instancenet.datasets import DigitsDataset
from mmseg_instancenet.datasets.cached_pipeline import CachedPipeline
from mmseg_instancenet.datasets.digits import write_digits
from mmseg_instancenet.datasets.transforms import LoadImageFromFile

IMAGES = 5
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadInstanceMasks')]
PIPELINES = {
    'masks flipped': [*LOAD, dict(type='mmdet.RandomFlip', prob=0.5), dict(type='MasksToMaps')],
    'maps cropped': [
        LOAD[0],
        dict(type='NormalizePercentiles'),
        LOAD[1],
        dict(type='MasksToMaps'),
        dict(type='RandomScaledCropMaps', size=40, scale=(0.7, 1.4), object_share=0.9),
        dict(type='RandomTurnMaps'),
        dict(type='RandomIntensity'),
    ],
    'masks resized': [*LOAD, dict(type='ResizeLongerSide', length=50), dict(type='MasksToMaps')],
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('digits')
    write_digits(folder, num_train=IMAGES, num_val=1)
    return folder


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The files that the loading step reads, in turn."""
    paths, read = [], LoadImageFromFile._read

    def recorded(self, path):
        paths.append(path)
        return read(self, path)

    monkeypatch.setattr(LoadImageFromFile, '_read', recorded)
    return paths


def digits(folder: Path, pipeline: list, **settings) -> DigitsDataset:
    pipeline = [*pipeline, dict(type='PackInstanceMaps')]
    return DigitsDataset(
        data_root=str(folder), ann_file='train.json', data_prefix=dict(img='train/'), pipeline=pipeline, **settings
    )


def epoch(dataset: DigitsDataset, seed: int) -> list[dict]:
    np.random.seed(seed)
    return [dataset[index] for index in np.random.permutation(len(dataset))]


def assert_equal(samples: list[dict], expected: list[dict]) -> None:
    for one, other in zip(samples, expected, strict=True):
        assert one['inputs'].dtype == other['inputs'].dtype and torch.equal(one['inputs'], other['inputs'])
        ours, theirs = one['data_samples'], other['data_samples']
        for name in ('gt_sem_seg', 'gt_instance_map'):
            assert torch.equal(ours.get(name).data, theirs.get(name).data)
        assert ours.metainfo_keys() == theirs.metainfo_keys()
        for key, value in theirs.metainfo_items():
            np.testing.assert_array_equal(ours.metainfo[key], value)


@pytest.mark.parametrize('name', PIPELINES)
def test_samples_are_those_without_memory(name, folder, reads):
    plain, cached = (digits(folder, PIPELINES[name], **settings) for settings in ({}, dict(cache_gigabytes=1)))
    assert type(plain.pipeline) is not CachedPipeline
    epochs = []
    for seed in range(3):
        epochs.append(epoch(plain, seed))
        assert_equal(epoch(cached, seed), epochs[-1])
    if 'Random' in str(PIPELINES[name]):  # the samples of a path differ from epoch to epoch
        for before, after in pairwise(epochs):
            inputs = [{one['data_samples'].img_path: one['inputs'] for one in samples} for samples in (before, after)]
            assert any(not torch.equal(inputs[0][path], inputs[1][path]) for path in inputs[0])
    assert len(reads) == 3 * IMAGES + IMAGES  # the second reads each file once


def test_memory_stays_below_its_limit(folder, reads):
    whole = digits(folder, PIPELINES['maps cropped'], cache_gigabytes=1)
    epoch(whole, 0)
    of_one = whole.pipeline.size / IMAGES
    # An image of 64 x 64 in float32 with three channels, and two maps.
    assert of_one == pytest.approx(64 * 64 * 4 * 5, rel=0.1)
    reads.clear()
    cached = digits(folder, PIPELINES['maps cropped'], cache_gigabytes=2.5 * of_one / 1e9)
    plain = digits(folder, PIPELINES['maps cropped'])
    for seed in range(2):
        samples = epoch(cached, seed)
        assert len(reads) == (IMAGES, IMAGES - 2)[seed]
        assert_equal(samples, epoch(plain, seed))
        reads.clear()
    assert 1.9 * of_one < cached.pipeline.size <= cached.pipeline.limit


def write_image(folder: Path, value: int) -> str:
    path = str(folder / f'{value}.png')
    cv2.imwrite(path, np.full((2, 3, 3), value, np.uint8))
    return path


def test_a_step_that_changes_its_input_does_not_change_the_memory(tmp_path):
    def add_one(results):
        results['img'] += 1
        results['seen'] = results.get('seen', 0) + 1
        return results

    path, pipeline = write_image(tmp_path, 7), CachedPipeline([LoadImageFromFile(), add_one], gigabytes=1)
    for _ in range(3):
        results = pipeline({'img_path': path})
        assert (results['img'] == 8).all() and results['seen'] == 1


def test_a_class_that_inherits_from_a_loading_step_is_not_kept(tmp_path):
    class RandomImage(LoadImageFromFile):
        def transform(self, results):
            return dict(super().transform(results), number=next(numbers))

    numbers, path = iter(range(9)), write_image(tmp_path, 3)
    pipeline = CachedPipeline([RandomImage(), LoadImageFromFile()], gigabytes=1)
    assert [pipeline({'img_path': path})['number'] for _ in range(3)] == [0, 1, 2]


def test_an_image_that_is_left_out_is_left_out_again(tmp_path):
    path = tmp_path / 'empty.png'
    path.write_bytes(b'')
    pipeline = CachedPipeline([LoadImageFromFile(ignore_empty=True), lambda results: results['img']], gigabytes=1)
    assert pipeline({'img_path': str(path)}) is None
    assert pipeline({'img_path': str(path)}) is None and pipeline.size == 0


@pytest.mark.parametrize('gigabytes', [-1, float('nan')])
def test_a_memory_below_zero_is_refused(gigabytes, folder):
    with pytest.raises(ValueError, match='expected a memory of more than 0 gigabytes'):
        digits(folder, LOAD, cache_gigabytes=gigabytes)
