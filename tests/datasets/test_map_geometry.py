"""Rotation, turns, scaled and plain crops of an image with its maps, against plain lookups."""

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose

from mmseg_instancenet.datasets.transforms import (
    RandomCropMaps,
    RandomRotateMaps,
    RandomScaledCropMaps,
    RandomTurnMaps,
)

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


@pytest.mark.parametrize(
    'transform', [RandomRotateMaps(10), RandomCropMaps(), RandomTurnMaps(), RandomScaledCropMaps(16)]
)
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
    """375 - 20 = 355, of which 352 is the multiple of 8; never below 8 unless the image is."""
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
    """A white disk lies where the matrix maps it, after rotation and crop, and after a matrix recorded by an earlier
    transform."""
    content = results(80, 100)
    content['img'] = cv2.circle(np.zeros((80, 100, 3), np.uint8), (70, 30), 4, (255, 255, 255), -1)
    content['homography_matrix'] = np.diag([2.0, 2.0, 1.0]).astype(np.float32)  # from an image of half the size
    after = RandomCropMaps(margin=20)(turned(monkeypatch, content, 9.0))
    x, y, _ = after['homography_matrix'] @ np.array([35, 15, 1])
    rows, columns = np.nonzero(after['img'][..., 0] > 200)
    assert (columns.mean(), rows.mean()) == pytest.approx((x, y), abs=0.3)


# Turns

KEYS = ('img', 'gt_seg_map', 'gt_instance_map')


@pytest.fixture
def seed():
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


def case(monkeypatch, content: dict, turns: int, mirrored: bool) -> dict:
    transform = RandomTurnMaps()
    monkeypatch.setattr(transform, '_case', lambda: (turns, mirrored))
    return transform(copied(content))


@pytest.mark.parametrize('mirrored', [False, True])
@pytest.mark.parametrize('turns', range(4))
def test_turn(monkeypatch, turns, mirrored):
    before = results(20, 33)
    after = case(monkeypatch, before, turns, mirrored)
    size = (20, 33) if turns % 2 == 0 else (33, 20)
    for key in KEYS:
        expected = np.rot90(before[key], turns)
        expected = np.flip(expected, 1) if mirrored else expected
        np.testing.assert_array_equal(after[key], expected)
        assert after[key].dtype == before[key].dtype and after[key].flags.c_contiguous
    assert after['img_shape'] == after['img'].shape[:2] == size


def test_quarter_turn_is_counterclockwise(monkeypatch):
    content = results(2, 3)
    content['gt_instance_map'] = np.array([[1, 2, 3], [4, 5, 6]])
    assert case(monkeypatch, content, 1, False)['gt_instance_map'].tolist() == [[3, 6], [2, 5], [1, 4]]
    assert case(monkeypatch, content, 1, True)['gt_instance_map'].tolist() == [[6, 3], [5, 2], [4, 1]]


def assert_matrix_follows_each_pixel(content: dict, matrix: np.ndarray) -> None:
    """The image holds of each pixel where it came from; centres of pixels lie at + 0.5."""
    height, width = content['img'].shape[:2]
    for row in range(height):
        for column in range(width):
            source_x, source_y = content['img'][row, column, :2].astype(float) + 0.5
            found = matrix @ np.array([source_x, source_y, 1])
            assert found == pytest.approx([column + 0.5, row + 0.5, 1], abs=1e-4)


def with_positions(height: int, width: int) -> dict:
    content = results(height, width)
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    content['img'] = np.stack([column, row, 0 * row], axis=2).astype(np.float32)
    return content


@pytest.mark.parametrize('mirrored', [False, True])
@pytest.mark.parametrize('turns', range(4))
def test_matrix_of_a_turn(monkeypatch, turns, mirrored):
    content = with_positions(11, 17)
    assert_matrix_follows_each_pixel(*_and_matrix(case(monkeypatch, content, turns, mirrored)))
    # After a crop, which has recorded a matrix of its own, and another turn.
    cropped = RandomCropMaps(margin=3, divisor=2)(copied(content))
    assert cropped['img'].shape[:2] == (8, 14)
    twice = case(monkeypatch, case(monkeypatch, cropped, 1, True), turns, mirrored)
    assert_matrix_follows_each_pixel(*_and_matrix(twice))


def _and_matrix(content: dict) -> tuple[dict, np.ndarray]:
    return content, content['homography_matrix']


def test_all_turns_are_equally_likely(seed):
    content, counts = results(4, 6), {}
    content['img'] = np.arange(24).reshape(4, 6)
    for _ in range(800):
        key = RandomTurnMaps()(copied(content))['img'].tobytes()
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 8
    assert all(60 <= count <= 140 for count in counts.values())  # four standard deviations about 100


# Scaled crops


def nearest(length: int, result: int) -> np.ndarray:
    """Index of the pixel under the centre of each pixel of a resized row."""
    return np.floor((np.arange(result) + 0.5) * length / result).astype(int)


def window_of(content: dict, before: dict) -> tuple[slice, slice, tuple[float, float]]:
    """Rows, columns and factors (y, x) of a scaled crop, from its matrix."""
    matrix = content['homography_matrix'].astype(float)
    spans = []
    for axis, index in ((0, 1), (1, 0)):
        start, length = -matrix[index, 2] / matrix[index, index], content['img'].shape[axis] / matrix[index, index]
        assert start == pytest.approx(round(start), abs=1e-3) and length == pytest.approx(round(length), abs=1e-3)
        assert round(start) >= 0 and round(start) + round(length) <= before['img'].shape[axis]
        spans.append(slice(round(start), round(start) + round(length)))
    return (*spans, (matrix[1, 1], matrix[0, 0]))


@pytest.mark.parametrize('scale', [(1, 1), (0.25, 0.25), (0.5, 0.5), (2, 2), (0.7, 1.4)])
def test_scaled_crop_against_a_lookup(seed, scale):
    before = results(135, 150)
    for _ in range(30):
        after = RandomScaledCropMaps(32, scale)(copied(before))
        rows, columns, _ = window_of(after, before)
        assert after['img_shape'] == (32, 32) and after['img'].shape == (32, 32, 3)
        lengths = [span.stop - span.start for span in (rows, columns)]
        assert lengths[0] == lengths[1]
        assert round(32 / scale[1]) <= lengths[0] <= round(32 / scale[0])
        index = nearest(lengths[0], 32)
        # Where a centre falls between two pixels, either is right.
        certain = np.abs((np.arange(32) + 0.5) * lengths[0] / 32 % 1 - 0.5) < 0.499
        for key in KEYS[1:]:
            expected = before[key][rows, columns][np.ix_(index, index)]
            np.testing.assert_array_equal(after[key][np.ix_(certain, certain)], expected[np.ix_(certain, certain)])
            assert after[key].dtype == np.int64
            assert set(np.unique(after[key])) <= set(np.unique(before[key]))
        assert 70000 in after['gt_instance_map'] and certain.any() != (lengths[0] in (64, 128))
        if lengths[0] == 32:
            np.testing.assert_array_equal(after['img'], before['img'][rows, columns])
        if lengths[0] in (64, 128):  # each pixel is the mean of those that it covers
            side = lengths[0] // 32
            mean = before['img'][rows, columns].reshape(32, side, 32, side, 3).astype(float).mean((1, 3))
            np.testing.assert_allclose(after['img'], mean, atol=0.5)


@pytest.mark.parametrize('scale', [0.5, 0.63, 0.9, 1.0, 1.27, 1.4, 2.0, 3.1])
def test_image_and_maps_lie_on_each_other(seed, scale):
    """Ramps that rise by one a pixel read as the position: in the image at the centres, in the map within half a pixel."""
    before = with_positions(100, 130)
    column, row = before['img'][..., 0], before['img'][..., 1]
    before['gt_seg_map'], before['gt_instance_map'] = row.astype(np.int64), column.astype(np.int64)
    for _ in range(10):
        after = RandomScaledCropMaps(24, (scale, scale))(copied(before))
        rows, columns, (factor_y, factor_x) = window_of(after, before)
        inner = (slice(2, -2), slice(2, -2))  # the outermost are continued, not extrapolated
        y = rows.start + (np.arange(24) + 0.5) / factor_y - 0.5
        x = columns.start + (np.arange(24) + 0.5) / factor_x - 0.5
        x_HW, y_HW = np.meshgrid(x, y)
        # A mean over an area takes the ramp for a staircase: up to an eighth of a pixel off, with no sign of its own.
        for found, expected in ((after['img'][..., 0], x_HW), (after['img'][..., 1], y_HW)):
            off = (found - expected)[inner]
            assert np.abs(off).max() <= 0.15 and abs(off.mean()) <= 0.02
        for found, expected in ((after['gt_instance_map'], x_HW), (after['gt_seg_map'], y_HW)):
            off = (found - expected)[inner]
            assert np.abs(off).max() <= 0.5 + 1e-6
            if scale != 0.5:  # where every centre falls between two pixels
                assert abs(off.mean()) <= 0.1


@pytest.mark.parametrize('scale, reach', [((0.7, 1.4), 1), ((1.5, 3.0), 2)])
def test_an_image_that_encodes_its_labels_still_does(seed, scale, reach):
    before = results(90, 120)
    grey = {-1: 0.0, 0: 85.0, 1: 170.0, 70000: 255.0}
    before['img'] = np.vectorize(grey.get)(before['gt_instance_map']).astype(np.float32)[..., None]
    for _ in range(40):
        after = Compose([RandomScaledCropMaps(48, scale), RandomTurnMaps()])(copied(before))
        found = np.vectorize(grey.get)(after['gt_instance_map'])
        # Away from the edges of the blocks the image is the label's grey; within half a pixel of them it is a mixture.
        inside = np.zeros((48, 48), bool)
        inside[reach:-reach, reach:-reach] = True
        for shift in np.ndindex(2 * reach + 1, 2 * reach + 1):
            inside &= np.roll(found, np.array(shift) - reach, (0, 1)) == found
        assert inside.sum() > 300
        np.testing.assert_allclose(after['img'][inside, 0], found[inside], atol=1e-3)


def test_matrix_of_a_scaled_crop_follows_a_disk(seed):
    before = results(80, 100)
    before['img'] = cv2.circle(np.zeros((80, 100, 3), np.uint8), (50, 40), 5, (255, 255, 255), -1)
    before['gt_instance_map'] = (before['img'][..., 0] > 0).astype(np.int64)
    before['homography_matrix'] = np.diag([2.0, 2.0, 1.0]).astype(np.float32)  # from an image of half the size
    off = []
    for _ in range(60):
        after = RandomTurnMaps()(RandomScaledCropMaps(40, (0.7, 1.6), object_share=1)(copied(before)))
        x, y, _ = after['homography_matrix'] @ np.array([50.5 / 2, 40.5 / 2, 1])
        if not (9 < x < 31 and 9 < y < 31):
            continue  # the crop may cut the disk
        rows, columns = np.nonzero(after['gt_instance_map'])
        off.append((columns.mean() + 0.5 - x, rows.mean() + 0.5 - y))
        grey = after['img'][..., 0].astype(float)
        rows, columns = np.indices(grey.shape)
        centre = (grey * (columns + 0.5)).sum() / grey.sum(), (grey * (rows + 0.5)).sum() / grey.sum()
        assert centre == pytest.approx((x, y), abs=0.15)
    # Each edge of the map's disk is rounded to whole pixels.
    assert len(off) > 10 and np.abs(off).max() <= 0.5 and np.abs(np.mean(off, axis=0)).max() <= 0.1


def test_crop_holds_an_object_each_as_often(seed):
    """Three objects of very different areas far from each other; the crop holds one at least, each in a third of the draws."""
    before = results(200, 200)
    before['gt_instance_map'][:] = 0
    before['gt_instance_map'][5, 5] = 70000
    before['gt_instance_map'][3:9, 150:190] = 4
    before['gt_instance_map'][120:190, 120:190] = 9
    before['gt_instance_map'][100:110, 20:60] = -1  # no object
    counts = dict.fromkeys((70000, 4, 9), 0)
    for _ in range(600):
        after = RandomScaledCropMaps(24, (1, 1), object_share=1)(copied(before))
        held = set(np.unique(after['gt_instance_map'])) & set(counts)
        assert len(held) == 1
        counts[held.pop()] += 1
    assert all(154 <= count <= 246 for count in counts.values())  # four standard deviations about 200


def test_position_of_the_crop_about_its_pixel(seed):
    """One pixel is the object: all positions of the crop that hold it, and no others, equally often."""
    before = results(30, 40)
    before['gt_instance_map'][:] = -1
    before['gt_instance_map'][20, 3] = 1
    corners = {}
    for _ in range(1600):
        after = RandomScaledCropMaps(8, (1, 1), object_share=1)(copied(before))
        assert (after['gt_instance_map'] == 1).sum() == 1
        rows, columns, _ = window_of(after, before)
        corners[rows.start, columns.start] = corners.get((rows.start, columns.start), 0) + 1
    # Rows 13 .. 20, columns 0 .. 3: the image begins there.
    assert set(corners) == {(row, column) for row in range(13, 21) for column in range(4)}
    assert all(20 <= count <= 80 for count in corners.values())  # 50 each


@pytest.mark.parametrize('content', ['objects', 'none'])
def test_without_a_share_or_an_object_positions_are_uniform(seed, content):
    before = results(20, 14)
    if content == 'objects':
        before['gt_instance_map'][:] = 0
        before['gt_instance_map'][0, 0] = 1
    else:
        before['gt_instance_map'] = np.where(before['gt_instance_map'] > 0, -1, 0)
    corners = {}
    for _ in range(1400):
        after = RandomScaledCropMaps(10, (1, 1), object_share=float(content == 'none'))(copied(before))
        rows, columns, _ = window_of(after, before)
        corners[rows.start, columns.start] = corners.get((rows.start, columns.start), 0) + 1
    assert set(corners) == {(row, column) for row in range(11) for column in range(5)}
    assert all(5 <= count <= 50 for count in corners.values())  # 25 each


def test_every_pixel_of_an_object_is_as_likely(seed):
    """An object as large as the image: crops lie all over it."""
    before = results(100, 100)
    before['gt_instance_map'][:] = 1
    starts = []
    for _ in range(400):
        after = RandomScaledCropMaps(4, (1, 1), object_share=1)(copied(before))
        rows, columns, _ = window_of(after, before)
        starts.append((rows.start, columns.start))
    counts = np.histogram2d(*np.transpose(starts), bins=2, range=[[0, 97], [0, 97]])[0]
    assert counts.min() >= 65  # four standard deviations below 100


def test_share_of_crops_about_an_object(seed):
    before = results(400, 400)
    before['gt_instance_map'][:] = 0
    before['gt_instance_map'][200, 200] = 1
    held = sum(
        1 in RandomScaledCropMaps(16, (1, 1), object_share=0.6)(copied(before))['gt_instance_map'] for _ in range(400)
    )
    assert 201 <= held <= 279  # 240, and one in 600 by chance


def test_scales_are_uniform_in_their_logarithm(seed):
    transform = RandomScaledCropMaps(16, (0.5, 2))
    logarithms = np.log2([transform._scale() for _ in range(2000)])
    assert -1 <= logarithms.min() < -0.99 and 0.99 < logarithms.max() <= 1
    assert logarithms.mean() == pytest.approx(0, abs=0.06)
    assert np.mean(np.abs(logarithms) < 0.5) == pytest.approx(0.5, abs=0.05)


def test_a_crop_inside_the_image_always_has_its_size(seed):
    """A window of round(128 / 1.37) = 93 pixels, times 1.37, would be 127."""
    before = results(190, 200)
    for scale in [1.37, *np.linspace(0.7, 1.4, 30)]:
        after = RandomScaledCropMaps(128, (scale, scale))(copied(before))
        assert all(after[key].shape[:2] == (128, 128) for key in KEYS)


@pytest.mark.parametrize(
    'size, scale, expected',
    [
        ((20, 200), 1.0, (20, 64)),  # kept whole in one direction
        ((20, 200), 2.0, (40, 64)),
        ((200, 20), 0.5, (64, 10)),
        ((20, 30), 1.5, (30, 45)),  # in both
        ((1, 1), 0.4, (1, 1)),
        ((63, 64), 1.0, (63, 64)),
        ((31, 32), 2.0, (62, 64)),
    ],
)
def test_image_smaller_than_the_crop(seed, size, scale, expected):
    before = results(*size)
    after = RandomScaledCropMaps(64, (scale, scale))(copied(before))
    assert all(after[key].shape[:2] == expected for key in KEYS) and after['img_shape'] == expected
    rows, columns, factors = window_of(after, before)
    for span, length, result, factor in zip((rows, columns), size, expected, factors, strict=True):
        assert factor == pytest.approx(result / (span.stop - span.start))
        if result < 64:
            assert (span.start, span.stop) == (0, length)


@pytest.mark.parametrize('scale', [0.6, 1.0, 1.7])
@pytest.mark.parametrize('channels', [None, 1, 2, 3, 5])
def test_channels_are_kept_and_each_for_itself(channels, scale):
    state = np.random.get_state()
    grey = results(60, 70)
    values = np.random.default_rng(0).random((60, 70, channels or 1)).astype(np.float32)
    crops = []
    try:
        for image in [values[..., 0] if channels is None else values, *np.moveaxis(values, 2, 0)]:
            np.random.seed(0)
            crops.append(RandomScaledCropMaps(32, (scale, scale))({**copied(grey), 'img': image})['img'])
    finally:
        np.random.set_state(state)
    together, *single = crops
    assert together.shape == ((32, 32) if channels is None else (32, 32, channels)) and together.dtype == np.float32
    np.testing.assert_array_equal(together.reshape(32, 32, -1), np.stack(single, axis=2))


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'size': 0}, 'expected a size >= 1 pixel, got 0'),
        ({'scale': (0, 1)}, r'0 < smallest <= largest, got \(0, 1\)'),
        ({'scale': (1.4, 0.7)}, r'0 < smallest <= largest, got \(1.4, 0.7\)'),
        ({'scale': (1,)}, r'scale=\(smallest, largest\)'),
        ({'object_share': 1.1}, '0 <= object_share <= 1, got 1.1'),
        ({'object_share': -0.1}, '0 <= object_share <= 1, got -0.1'),
    ],
)
def test_scaled_crop_that_does_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        RandomScaledCropMaps(**{'size': 16, **settings})


def test_same_seed_same_turn_and_crop():
    state, transform = np.random.get_state(), Compose([{'type': 'RandomScaledCropMaps', 'size': 24}, RandomTurnMaps()])
    crops = []
    try:
        for seed in (5, 5, 6):
            np.random.seed(seed)
            crops.append(transform(results(60, 70))['img'])
    finally:
        np.random.set_state(state)
    np.testing.assert_array_equal(crops[0], crops[1])
    assert not np.array_equal(crops[0], crops[2])
