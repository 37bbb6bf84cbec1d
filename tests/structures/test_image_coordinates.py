"""Coordinates of a map's cells in the whole image, after mmdet's transforms."""

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmseg.registry import TRANSFORMS

from mmseg_instancenet.datasets.transforms import RandomTurnMaps
from mmseg_instancenet.structures import image_coordinates

HEIGHT, WIDTH = 60, 90
CPU = torch.device('cpu')


def ramp():
    """An image that holds the coordinates of its own pixels: x, y and nothing."""
    x = (np.arange(WIDTH) + 0.5) / WIDTH * 2 - 1
    y = (np.arange(HEIGHT) + 0.5) / HEIGHT * 2 - 1
    x_HW, y_HW = np.meshgrid(x, y)
    return np.stack([x_HW, y_HW, 0 * x_HW], axis=2).astype(np.float32)


RESIZE = {'type': 'mmdet.Resize', 'scale': (135, 1000), 'keep_ratio': True}  # 1.5 times
STRETCH = {'type': 'mmdet.Resize', 'scale': (45, 80), 'keep_ratio': False}
CROP = {'type': 'mmdet.RandomCrop', 'crop_size': (31, 40)}
PIPELINES = {
    'nothing': [],
    'resize': [RESIZE],
    'stretch': [STRETCH],
    'crop': [CROP],
    'crop twice': [{**CROP, 'crop_size': (50, 70)}, CROP],
    'resize, crop': [RESIZE, CROP],
    'crop, stretch': [CROP, STRETCH],
    **{
        f'{direction}{", ".join(["", *more])}': [
            {'type': 'mmdet.RandomFlip', 'prob': 1.0, 'direction': direction},
            *steps,
        ]
        for direction in ('horizontal', 'vertical', 'diagonal')
        for more, steps in {(): [], ('crop',): [CROP], ('stretch', 'crop'): [STRETCH, CROP]}.items()
    },
    'resize, crop, horizontal': [RESIZE, CROP, {'type': 'mmdet.RandomFlip', 'prob': 1.0, 'direction': 'horizontal'}],
}


def run(steps):
    np.random.seed(5)
    results = {'img': ramp(), 'img_shape': (HEIGHT, WIDTH), 'ori_shape': (HEIGHT, WIDTH)}
    results = Compose([TRANSFORMS.build(step) for step in steps])(results)
    keys = ('homography_matrix', 'ori_shape', 'img_shape', 'flip', 'flip_direction')
    return torch.from_numpy(results['img'][:, :, :2].transpose(2, 0, 1).copy()), {
        k: results[k] for k in keys if k in results
    }


@pytest.mark.parametrize('name', PIPELINES)
def test_coordinates_are_those_of_the_original_point(name):
    image, meta = run(PIPELINES[name])
    # A flipped image is one of its own, whose coordinates run from left to right and from top to bottom too.
    if any(direction in name for direction in ('horizontal', 'diagonal')):
        image[0] *= -1
    if any(direction in name for direction in ('vertical', 'diagonal')):
        image[1] *= -1
    size = tuple(image.shape[1:])
    assert (size != (HEIGHT, WIDTH)) == any(word in name for word in ('resize', 'stretch', 'crop'))
    result = image_coordinates([meta], size, size, CPU)[0]
    assert result.dtype == torch.float32
    # At its border mmcv's interpolation repeats the border instead of going on.
    inner = (slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(result[inner], image[inner], rtol=0, atol=2e-5)

    # A map of half the size, of a window, of a padded input.
    rows, columns = size[0] // 4 * 2, size[1] // 4 * 2
    window = image_coordinates([meta], (rows, columns), (rows // 2, columns // 2), CPU, origin=(3, 5))[0]
    cells = torch.nn.functional.avg_pool2d(result[:, 3 : 3 + rows, 5 : 5 + columns], 2)
    torch.testing.assert_close(window, cells, rtol=0, atol=1e-5)
    padded = image_coordinates([meta], (size[0] + 7, size[1] + 9), (size[0] + 7, size[1] + 9), CPU)[0]
    torch.testing.assert_close(padded[:, : size[0], : size[1]], result)


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_a_flip_of_the_whole_image_changes_no_coordinate(direction):
    for steps in ([], [RESIZE], [STRETCH]):
        plain, flipped = (
            image_coordinates([run([*first, *steps])[1]], (40, 50), (20, 25), CPU)
            for first in ([], [{'type': 'mmdet.RandomFlip', 'prob': 1.0, 'direction': direction}])
        )
        torch.testing.assert_close(flipped, plain)


class Turn(RandomTurnMaps):
    """One of the eight cases."""

    def __init__(self, turns, mirrored):
        self.case = turns, mirrored

    def _case(self):
        return self.case


def turned_and(steps, turn):
    """Runs steps on an image that holds of each pixel its number, and gives that and the meta information."""
    np.random.seed(7)
    results = {'img': np.arange(HEIGHT * WIDTH, dtype=np.float64).reshape(HEIGHT, WIDTH)}
    maps = {key: np.zeros((HEIGHT, WIDTH), np.int64) for key in ('gt_seg_map', 'gt_instance_map')}
    results.update(maps, img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH))
    built = {'turn': turn, 'crop': TRANSFORMS.build({'type': 'RandomCropMaps', 'margin': 9, 'divisor': 2})}
    for step in steps:
        results = built[step](results)
    return results['img'], {key: results[key] for key in ('homography_matrix', 'ori_shape', 'img_shape')}


@pytest.mark.parametrize('steps', [['turn'], ['turn', 'crop'], ['crop', 'turn'], ['crop', 'turn', 'crop']], ids=str)
@pytest.mark.parametrize('mirrored', [False, True])
@pytest.mark.parametrize('turns', range(4))
def test_coordinates_after_a_turn_are_those_of_the_whole_turned_image(turns, mirrored, steps):
    whole, _ = turned_and(['turn'], Turn(turns, mirrored))
    image, meta = turned_and(steps, Turn(turns, mirrored))
    assert (image.shape == whole.shape) == ('crop' not in steps)
    # Where each pixel lies in the whole turned image, found by its number.
    height, width = whole.shape
    assert (height, width) == ((HEIGHT, WIDTH) if turns % 2 == 0 else (WIDTH, HEIGHT))
    place = {number: (row, column) for (row, column), number in np.ndenumerate(whole)}
    row_HW, column_HW = np.moveaxis(np.array([[place[number] for number in row] for row in image]), 2, 0)
    expected = np.stack([(column_HW + 0.5) / width * 2 - 1, (row_HW + 0.5) / height * 2 - 1]).astype(np.float32)

    result = image_coordinates([meta], image.shape, image.shape, CPU)[0]
    torch.testing.assert_close(result, torch.from_numpy(expected), rtol=0, atol=2e-5)
    if steps == ['turn']:  # from one edge to the other
        assert result[0, 0].tolist() == pytest.approx([(2 * x + 1) / width - 1 for x in range(width)], abs=1e-5)
        assert result[1, :, 0].tolist() == pytest.approx([(2 * y + 1) / height - 1 for y in range(height)], abs=1e-5)
    # A map of half the size, of a window.
    window = image_coordinates([meta], (20, 24), (10, 12), CPU, origin=(3, 5))[0]
    cells = torch.nn.functional.avg_pool2d(torch.from_numpy(expected)[:, 3:23, 5:29], 2)
    torch.testing.assert_close(window, cells, rtol=0, atol=2e-5)


@pytest.mark.parametrize('stretch', [(1, 1), (2, 0.5)])
@pytest.mark.parametrize('degrees', [-170, -130, -100, -50, -40, 0, 40, 50, 100, 130, 170])
def test_a_rotation_counts_as_the_nearest_quarter_turn(degrees, stretch):
    """Its coordinates are those of that turn, rotated by the rest: they grow from left to right and from top to bottom."""
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shift = np.array([[1, 0, 30], [0, 1, 30], [0, 0, 1]])
    matrix = np.diag([*stretch, 1]) @ shift @ rotation @ np.linalg.inv(shift)  # about the centre of 60 x 60
    meta = {'homography_matrix': matrix, 'ori_shape': (60, 60), 'img_shape': (60, 60)}
    size = (round(60 * stretch[1]), round(60 * stretch[0]))
    result = image_coordinates([meta], size, size, CPU)[0].double()
    rest = np.radians(degrees - 90 * round(degrees / 90))
    x, y = ((torch.arange(length) + 0.5) / length * 2 - 1 for length in (size[1], size[0]))
    y_HW, x_HW = torch.meshgrid(y.double(), x.double(), indexing='ij')
    expected = torch.stack([np.cos(rest) * x_HW - np.sin(rest) * y_HW, np.sin(rest) * x_HW + np.cos(rest) * y_HW])
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_each_image_has_its_own():
    metas = [run(PIPELINES[name])[1] for name in ('horizontal', 'stretch', 'crop')] + [{}]
    together = image_coordinates(metas, (20, 30), (10, 15), CPU)
    for index, meta in enumerate(metas):
        assert torch.equal(together[index], image_coordinates([meta], (20, 30), (10, 15), CPU)[0])
    assert len(torch.unique(together[:, 0, 0, 0])) == 4


def test_corners_and_padding():
    result = image_coordinates([{'ori_shape': (4, 8), 'img_shape': (4, 8)}], (8, 16), (8, 16), CPU)[0]
    assert result[:, 0, 0].tolist() == [-1 + 1 / 8, -1 + 1 / 4]
    assert result[:, 3, 7].tolist() == [1 - 1 / 8, 1 - 1 / 4]
    assert (result[0, :, 8:] > 1).all()
    assert (result[1, 4:] > 1).all()


@pytest.mark.parametrize('change', [{'img_shape': (30, 45)}, {'flip': True, 'flip_direction': 'horizontal'}])
def test_a_changed_image_without_its_matrix_is_an_error(change):
    meta = {'ori_shape': (HEIGHT, WIDTH), 'img_shape': (HEIGHT, WIDTH), **change}
    with pytest.raises(ValueError, match="needs 'homography_matrix'.*PackInstanceMaps.*got only.*img_shape"):
        image_coordinates([meta], (30, 45), (30, 45), CPU)


def test_mmsegs_crop_to_the_size_of_the_original_is_an_error():
    results = {'img': ramp(), 'img_shape': (HEIGHT, WIDTH), 'ori_shape': (HEIGHT, WIDTH)}
    steps = [{'type': 'Resize', 'scale': (135, 90)}, {'type': 'RandomCrop', 'crop_size': (HEIGHT, WIDTH)}]
    sample = Compose([*steps, {'type': 'PackInstanceMaps'}])(results)['data_samples']
    assert sample.img_shape == sample.ori_shape
    with pytest.raises(ValueError, match="needs 'homography_matrix'.*RandomCropMaps and the like"):
        image_coordinates([sample.metainfo], (HEIGHT, WIDTH), (6, 9), CPU)
