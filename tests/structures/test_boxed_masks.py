"""``BoxedMasks`` against mmdet's ``BitmapMasks``: the same masks to the bit."""

import numpy as np
import pytest
from mmdet.datasets.transforms import RandomCrop, RandomFlip, Resize
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from mmseg_instancenet.structures import BoxedMasks, MaskCrop

HEIGHT, WIDTH = 23, 31


def scene(seed: int = 0, count: int = 9) -> np.ndarray:
    """Masks of any place and size, some with holes, some at the borders, one empty, one of the whole image."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, HEIGHT, WIDTH), np.uint8)
    for mask in masks:
        top, left = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        mask[top : top + rng.integers(1, 12), left : left + rng.integers(1, 15)] = 1
        mask[rng.random(mask.shape) < 0.2] = 0
    if count > 1:
        masks[0], masks[1] = 0, 1
    return masks


def both(seed: int = 0, count: int = 9) -> tuple[BitmapMasks, BoxedMasks]:
    bitmaps = BitmapMasks(scene(seed, count), HEIGHT, WIDTH)
    return bitmaps, BoxedMasks.of(bitmaps)


def assert_same(boxed, bitmaps):
    assert (boxed.height, boxed.width, len(boxed)) == (bitmaps.height, bitmaps.width, len(bitmaps))
    np.testing.assert_array_equal(np.array(list(boxed)).reshape(bitmaps.masks.shape), bitmaps.masks)


OPERATIONS = {
    'flip': lambda masks: masks.flip(),
    'flip vertically': lambda masks: masks.flip('vertical'),
    'flip diagonally': lambda masks: masks.flip('diagonal'),
    'pad': lambda masks: masks.pad((30, 40)),
    'pad with ones': lambda masks: masks.pad((30, 40), pad_val=1),
    'crop': lambda masks: masks.crop(np.array([4, 3, 20, 17])),
    'crop over the border': lambda masks: masks.crop(np.array([20, 10, 90, 90])),
    'crop of a pixel': lambda masks: masks.crop(np.array([7, 7, 7, 7])),
    'rescale by a factor': lambda masks: masks.rescale(1.7),
    'rescale into a size': lambda masks: masks.rescale((50, 19)),
    'bilinear': lambda masks: masks.resize((11, 15), interpolation='bilinear'),
    'one': lambda masks: masks[3],
    'some': lambda masks: masks[np.array([5, 2, 2])],
    'by bools': lambda masks: masks[np.arange(len(masks)) % 2 == 0],
    'a slice': lambda masks: masks[2:5],
    'none': lambda masks: masks[np.zeros(0, int)],
    'one after another': lambda masks: (
        masks.rescale(2.3).flip().crop(np.array([9, 9, 50, 40])).resize((17, 13)).pad((20, 20))
    ),
    'translate': lambda masks: masks.translate((25, 33), 5, 'vertical'),
    'expand': lambda masks: masks.expand(40, 50, 3, 6),
    'join': lambda masks: type(masks).cat([masks, masks.flip()]),
}


@pytest.mark.parametrize('operation', OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize('seed', [0, 1])
def test_operations(operation, seed):
    bitmaps, boxed = both(seed)
    assert_same(operation(boxed), operation(bitmaps))
    assert_same(boxed, bitmaps)


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (10, 31), (23, 31), (24, 30), (46, 62), (47, 100), (513, 17)])
def test_resize_to_any_size(size):
    bitmaps, boxed = both()
    assert_same(boxed.resize(size), bitmaps.resize(size))


def test_measures():
    bitmaps, boxed = both()
    np.testing.assert_array_equal(boxed.areas, bitmaps.areas)
    np.testing.assert_array_equal(boxed.get_bboxes('hbox').tensor, bitmaps.get_bboxes('hbox').tensor)
    np.testing.assert_array_equal(boxed.to_ndarray(), bitmaps.to_ndarray())
    np.testing.assert_array_equal(BoxedMasks(bitmaps.masks, HEIGHT, WIDTH).areas, bitmaps.areas)


@pytest.mark.parametrize('count', [0, 1])
def test_none_and_one(count):
    bitmaps, boxed = both(count=count)
    for operation in ('flip', 'pad', 'crop', 'rescale by a factor', 'join'):
        assert_same(OPERATIONS[operation](boxed), OPERATIONS[operation](bitmaps))
    assert boxed.get_bboxes('hbox').tensor.shape == (count, 4)


def test_transforms_that_write_into_the_bitmaps():
    """mmdet's RandomErasing does, and CopyPaste sets them."""
    bitmaps, boxed = both()
    boxed = boxed.flip().flip()
    for masks in (bitmaps, boxed):
        masks.masks[:, 3:9, 2:20] = 0
    assert_same(boxed.flip(), bitmaps.flip())
    for masks in (bitmaps, boxed):
        masks.masks = np.where(masks.masks[1], 0, masks.masks)
    assert_same(boxed, bitmaps)
    with pytest.raises(ValueError, match=r'expected masks of height and width \(23, 31\), got \(4, 5\)'):
        boxed.masks = np.zeros((2, 4, 5), np.uint8)


@pytest.mark.parametrize(
    'transform',
    [
        Resize(scale=(60, 40), keep_ratio=True),
        RandomFlip(prob=1.0, direction='diagonal'),
        RandomCrop(crop_size=(12, 16), recompute_bbox=True),
    ],
    ids=['Resize', 'RandomFlip', 'RandomCrop'],
)
def test_mmdets_transforms(transform):
    found = []
    for masks in both(seed=2):
        np.random.seed(3)
        results = dict(
            img=np.zeros((HEIGHT, WIDTH, 3), np.uint8),
            img_shape=(HEIGHT, WIDTH),
            gt_masks=masks,
            gt_bboxes=HorizontalBoxes(masks.get_bboxes('hbox').tensor),
            gt_bboxes_labels=np.arange(9),
            gt_ignore_flags=np.zeros(9, bool),
        )
        found.append(transform(results))
    bitmaps, boxed = found
    assert isinstance(boxed['gt_masks'], BoxedMasks)
    assert_same(boxed['gt_masks'], bitmaps['gt_masks'])
    np.testing.assert_array_equal(boxed['gt_bboxes'].tensor, bitmaps['gt_bboxes'].tensor)
    np.testing.assert_array_equal(boxed['gt_bboxes_labels'], bitmaps['gt_bboxes_labels'])


def test_memory_is_that_of_the_boxes():
    masks = BoxedMasks([MaskCrop(5, 7, np.ones((2, 3), np.uint8))] * 1000, 4000, 4000)
    moved = masks.flip().rescale(1.5).crop(np.array([100, 100, 5900, 5900])).pad((6000, 6000))
    assert sum(crop.mask_hw.size for crop in moved.crops) < 1000 * 30
    assert BoxedMasks.of(moved) is moved
