"""Where a map's cells lie in the whole picture, after mmdet's transforms."""

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmseg.registry import TRANSFORMS

from mmseg_instancenet.structures import image_coordinates

HEIGHT, WIDTH = 60, 90
CPU = torch.device('cpu')


def ramp():
    """A picture that holds the coordinates of its own pixels: x, y and nothing."""
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
    # A flipped picture is one of its own, whose coordinates run from left to right and from top to bottom too.
    if any(direction in name for direction in ('horizontal', 'diagonal')):
        image[0] *= -1
    if any(direction in name for direction in ('vertical', 'diagonal')):
        image[1] *= -1
    size = tuple(image.shape[1:])
    assert (size != (HEIGHT, WIDTH)) == any(word in name for word in ('resize', 'stretch', 'crop'))
    result = image_coordinates([meta], size, size, CPU)[0]
    assert result.dtype == torch.float32
    # At its rim mmcv's interpolation repeats the border instead of going on.
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
def test_a_flip_of_the_whole_picture_changes_no_coordinate(direction):
    for steps in ([], [RESIZE], [STRETCH]):
        plain, flipped = (
            image_coordinates([run([*first, *steps])[1]], (40, 50), (20, 25), CPU)
            for first in ([], [{'type': 'mmdet.RandomFlip', 'prob': 1.0, 'direction': direction}])
        )
        torch.testing.assert_close(flipped, plain)


def test_each_picture_has_its_own():
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
def test_a_changed_picture_without_its_matrix_is_an_error(change):
    meta = {'ori_shape': (HEIGHT, WIDTH), 'img_shape': (HEIGHT, WIDTH), **change}
    with pytest.raises(ValueError, match="needs 'homography_matrix'.*PackInstanceMaps.*got only.*img_shape"):
        image_coordinates([meta], (30, 45), (30, 45), CPU)
