"""Sizes of objects, pairs that touch, and objects left on the embedding's map, against plain Python."""

import itertools

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from pycocotools.coco import COCO

from mmseg_instancenet.datasets.annotations.object_statistics import (
    Grids,
    ObjectStatistics,
    measure_objects,
    touching_pairs,
)
from mmseg_instancenet.datasets.transforms import masks_to_maps
from mmseg_instancenet.datasets.transforms.load_masks import crops_of
from mmseg_instancenet.structures import BoxedMasks, resize_labels


def neighbours(instance_map: np.ndarray, labels) -> set[tuple[int, int]]:
    """The pairs that touch, pixel by pixel."""
    pairs = set()
    height, width = instance_map.shape
    for row, column in itertools.product(range(height), range(width)):
        for down, right in itertools.product((-1, 0, 1), repeat=2):
            if 0 <= row + down < height and 0 <= column + right < width:
                one, other = int(instance_map[row, column]), int(instance_map[row + down, column + right])
                if 0 < one < other and labels[one - 1] == labels[other - 1]:
                    pairs.add((one - 1, other - 1))
    return pairs


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize(('height', 'width', 'count'), [(1, 1, 1), (1, 9, 3), (9, 1, 3), (7, 11, 6), (24, 17, 40)])
def test_touching_pairs(seed, height, width, count):
    rng = np.random.default_rng(seed)
    # Objects in columns at the borders too: the first pixel of a row is no neighbour of the last one of the row before.
    instance_map = rng.integers(-1, count + 1, (height, width)) * (rng.random((height, width)) < 0.4)
    labels = rng.integers(0, 2, count)
    found = touching_pairs(instance_map, labels)
    assert list(map(tuple, found.tolist())) == sorted(neighbours(instance_map, labels))


@pytest.mark.parametrize('values', [np.zeros((3, 4), int), np.full((3, 4), -1), np.ones((3, 4), int)])
def test_no_pairs(values):
    assert touching_pairs(values, np.zeros(int(values.max() > 0), int)).shape == (0, 2)


def rows(*texts: str) -> BoxedMasks:
    """Masks of images of one row: '##..' covers the two left of four pixels."""
    return BoxedMasks(np.array([[[pixel == '#' for pixel in text]] for text in texts], np.uint8), 1, len(texts[0]))


def measured(masks: BoxedMasks, labels, ignored=None, grids=None) -> list[list[int]]:
    ignored = np.zeros(len(labels), bool) if ignored is None else np.array(ignored)
    return [list(map(int, values)) for values in measure_objects(masks, np.array(labels), ignored, grids)]


def test_objects_at_the_size_of_the_image():
    masks = rows('###.......', '...##.....', '.......##.')
    assert measured(masks, [0, 0, 0]) == [[3, 2, 2], [1, 1, 0], [3, 2, 2], [1, 1, 1]]
    assert measured(masks, [0, 1, 0])[1] == [0, 0, 0]
    assert measured(masks, [0, 0, 0], [False, True, False]) == [[3, 2, 2], [0, 0, 0], [3, 0, 2], [1, 0, 1]]


def test_a_mask_under_smaller_ones():
    assert measured(rows('.##.', '.##.', '#...'), [0, 0, 0]) == [[2, 2, 1], [0, 1, 1], [0, 2, 1], [0, 1, 1]]


def test_objects_on_a_coarser_map():
    """The map's cells lie over pixels 1, 4 and 7 of nine."""
    masks = rows('##.......', '...##....', '.....#...', '.......##')
    #             0 touches 1 on the map alone, 2 is gone, 1 touches 2 in the image, 3 touches 1 on the map alone
    expected = [[2, 2, 1, 2], [0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0]]
    assert measured(masks, [0, 0, 0, 0], grids=Grids((1, 9), (1, 3))) == expected
    assert measured(masks, [0, 1, 1, 0], grids=Grids((1, 9), (1, 3)))[3] == [1, 1, 0, 1]


def test_objects_in_an_input_that_is_resized():
    masks = rows('#...', '..##')
    assert measured(masks, [0, 0], grids=Grids((2, 8), (2, 8)))[2:] == [[4, 8], [1, 1]]
    assert measured(masks, [0, 0], grids=Grids((1, 2), (1, 2)))[2:] == [[1, 1], [0, 0]]


@pytest.mark.parametrize('grids', [Grids((51, 34), (13, 9)), Grids((20, 13), (20, 13)), Grids((90, 61), (12, 8))])
def test_cells_are_those_of_a_training(grids):
    """The masks go through mmdet's resize, MasksToMaps and the resize of the loss one after the other."""
    rng = np.random.default_rng(0)
    count = 12
    owner = rng.integers(0, count + 4, (10, 8)).repeat(4, 0).repeat(3, 1)
    masks = BoxedMasks(np.stack([owner == place for place in range(count)]).astype(np.uint8), 40, 24)
    labels, ignored = np.arange(count) % 2, np.arange(count) == 3
    painted = masks_to_maps(BitmapMasks(masks.to_ndarray(), 40, 24).resize(grids.input), labels, ignored)[1]
    on_map = resize_labels(torch.from_numpy(painted), grids.map).numpy()
    found = measure_objects(BoxedMasks(masks.to_ndarray(), 40, 24), labels, ignored, grids)
    assert found.cell_K.tolist() == [int((on_map == place + 1).sum()) for place in range(count)]


def test_objects_of_real_images(test_data):
    """Nuclei of three images, against masks of pycocotools, pixel by pixel."""
    coco = COCO(str(test_data / 'dsb2018' / 'train.json'))
    small = [number for number, image in coco.imgs.items() if image['height'] * image['width'] <= 256 * 256][:3]
    for number in small:
        annotations, image = coco.imgToAnns[number], coco.imgs[number]
        masks = [coco.annToMask(annotation) for annotation in annotations]
        instance_map = np.zeros((image['height'], image['width']), int)
        for place in sorted(range(len(masks)), key=lambda place: -int(masks[place].sum())):
            instance_map[masks[place] == 1] = place + 1
        labels = np.zeros(len(masks), int)
        pairs = neighbours(instance_map, labels)
        coarse = instance_map[2::4, 2::4]
        on_map = neighbours(coarse, labels) - pairs
        boxed = BoxedMasks(crops_of([coco.annToRLE(entry) for entry in annotations]), image['height'], image['width'])
        found = measure_objects(boxed, labels, labels == 1, Grids(instance_map.shape, coarse.shape))
        assert found.pixel_K.tolist() == [int(mask.sum()) for mask in masks]
        assert set(np.flatnonzero(found.touch_K).tolist()) == set(itertools.chain(*pairs))
        assert found.cell_K.tolist() == [int((coarse == place + 1).sum()) for place in range(len(masks))]
        merged = set(itertools.chain(*on_map))
        expected = [count > 0 and place not in merged for place, count in enumerate(found.cell_K.tolist())]
        assert found.apart_K.tolist() == expected


def test_table():
    statistics = ObjectStatistics(['cat', 'dog', 'cow'], lambda size: Grids(size, (1, size[1] // 2)))
    # The cells of this map lie over pixels 1, 3, 5 and 7.
    statistics.add(rows('##......', '..#.....', '....####'), np.array([0, 0, 2]), np.zeros(3, bool))
    statistics.add(rows('#.......', '..######'), np.array([0, -1]), np.array([True, True]))
    lines = [line.split() for line in statistics.table().splitlines()]
    assert lines[1:] == [
        ['void', '0', '1'],
        ['cat', '2', '1', '1', '2', '2', '100.0', '%', '50.0', '%', '50.0', '%'],
        ['cow', '1', '0', '4', '4', '4', '0.0', '%', '100.0', '%', '100.0', '%'],
        ['all', '3', '2', '1', '2', '4', '66.7', '%', '66.7', '%', '66.7', '%'],
    ]


def test_table_without_a_map_and_without_objects():
    statistics = ObjectStatistics(['cat'], None)
    assert statistics.table() == 'no object of the classes'
    statistics.add(rows('##......'), np.array([0]), np.zeros(1, bool))
    head, row = statistics.table().splitlines()
    assert head.split()[-1] == 'touching'
    assert row.split() == ['cat', '1', '0', '2', '2', '2', '0.0', '%']
