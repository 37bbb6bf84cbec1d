"""Rotation and crop of a picture with its maps, against plain lookups."""

import cv2
import numpy as np
import pytest

from mmseg_instancenet.datasets.transforms import RandomCropMaps, RandomRotateMaps

BORDER = (103.53, 116.28, 123.675)


def results(height: int, width: int, seed: int = 0) -> dict:
    """Blocks of a class and an instance each, with values of every kind and an id that no int16 holds."""
    rng = np.random.default_rng(seed)
    shape = (-(-height // 6), -(-width // 6))
    blocks = {
        'gt_seg_map': rng.choice([0, 1, 20, 255], shape),
        'gt_instance_map': rng.choice([-1, 0, 1, 70000], shape),
    }
    maps = {
        key: np.kron(value, np.ones((6, 6), int))[:height, :width].astype(np.int64) for key, value in blocks.items()
    }
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return {'img': image, 'img_shape': (height, width), **maps}


def copied(content: dict) -> dict:
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in content.items()}


def turned(monkeypatch, content: dict, angle: float) -> dict:
    monkeypatch.setattr(np.random, 'uniform', lambda low, high: angle)
    return RandomRotateMaps(180)(copied(content))


@pytest.mark.parametrize('degrees', [0, -5, 181])
def test_angle_that_does_not_fit(degrees):
    with pytest.raises(ValueError, match=f'expected 0 < degrees <= 180, got {degrees}'):
        RandomRotateMaps(degrees)


@pytest.mark.parametrize('options', [{'margin': -1}, {'divisor': 0}])
def test_crop_that_does_not_fit(options):
    with pytest.raises(ValueError, match='expected margin >= 0 and divisor >= 1'):
        RandomCropMaps(**options)


@pytest.mark.parametrize('transform', [RandomRotateMaps(10), RandomCropMaps()])
def test_maps_are_missing(transform):
    with pytest.raises(KeyError, match='MasksToMaps'):
        transform({'img': np.zeros((40, 40, 3), np.uint8)})


@pytest.mark.parametrize(('angle', 'turns'), [(90, 1), (180, 2), (-90, 3)])
def test_quarter_turns_are_exact(monkeypatch, angle, turns):
    before = results(30, 30)
    after = turned(monkeypatch, before, angle)
    for key in ('img', 'gt_seg_map', 'gt_instance_map'):
        np.testing.assert_array_equal(after[key], np.rot90(before[key], turns))
        assert after[key].dtype == before[key].dtype


def test_small_angle_against_a_lookup_of_each_pixel(monkeypatch):
    height, width, angle = 47, 63, 7.0
    before = results(height, width)
    after = turned(monkeypatch, before, angle)
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    checked = outside = 0
    for y in range(height):
        for x in range(width):
            # Counter-clockwise about the center, rows running down.
            right, down = x - (width - 1) / 2, y - (height - 1) / 2
            source_x = cosine * right - sine * down + (width - 1) / 2
            source_y = sine * right + cosine * down + (height - 1) / 2
            column, row = round(source_x), round(source_y)
            if max(abs(source_x - column), abs(source_y - row)) > 0.45:
                continue  # between two pixels: OpenCV's fixed-point coordinates may take the other
            inside = 0 <= row < height and 0 <= column < width
            for key, ignored in (('gt_seg_map', 255), ('gt_instance_map', -1)):
                assert after[key][y, x] == (before[key][row, column] if inside else ignored)
            if not inside and (source_x < -1 or source_y < -1 or source_x > width or source_y > height):
                assert after['img'][y, x].tolist() == [round(value) for value in BORDER]
            checked, outside = checked + 1, outside + (not inside)
    assert checked > 0.75 * height * width and outside > 100


def test_angles_stay_in_their_range():
    np.random.seed(0)
    transform = RandomRotateMaps(10)
    angles = [transform._angle() for _ in range(300)]
    assert -10 <= min(angles) < -9 and 9 < max(angles) <= 10


@pytest.mark.parametrize(
    ('side', 'length'),
    [(375, 352), (500, 480), (28, 8), (48, 24), (20, 8), (8, 8), (5, 5)],
)
def test_length_of_the_crop(side, length):
    """375 - 20 = 355, of which 352 is the multiple of 8; never below 8 unless the picture is."""
    np.random.seed(0)
    after = RandomCropMaps(margin=20, divisor=8)(results(side, 500))
    assert after['img'].shape == (length, 480, 3) and after['img_shape'] == (length, 480)
    assert after['gt_seg_map'].shape == after['gt_instance_map'].shape == (length, 480)


def test_crops_are_pieces_and_reach_all_positions():
    np.random.seed(0)
    before, corners = results(29, 45), set()
    for _ in range(300):
        after = RandomCropMaps(margin=4, divisor=8)(copied(before))
        top, left = (-int(after['homography_matrix'][axis, 2]) for axis in (1, 0))
        corners.add((top, left))
        for key in ('img', 'gt_seg_map', 'gt_instance_map'):
            np.testing.assert_array_equal(after[key], before[key][top : top + 24, left : left + 40])
    assert {top for top, _ in corners} == set(range(6)) and {left for _, left in corners} == set(range(6))


def test_homography_follows_a_point(monkeypatch):
    """A white disk is where the matrix says, after rotation and crop, and after what an earlier transform recorded."""
    content = results(80, 100)
    content['img'] = cv2.circle(np.zeros((80, 100, 3), np.uint8), (70, 30), 4, (255, 255, 255), -1)
    content['homography_matrix'] = np.diag([2.0, 2.0, 1.0]).astype(np.float32)  # from a picture of half the size
    after = RandomCropMaps(margin=20)(turned(monkeypatch, content, 9.0))
    x, y, _ = after['homography_matrix'] @ np.array([35, 15, 1])
    rows, columns = np.nonzero(after['img'][..., 0] > 200)
    assert (columns.mean(), rows.mean()) == pytest.approx((x, y), abs=0.3)
