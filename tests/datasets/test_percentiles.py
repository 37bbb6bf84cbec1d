"""Percentiles of an image to 0 and 1, against the formula written out."""

import numpy as np
import pytest
from mmcv.transforms import Compose

from mmseg_instancenet.datasets.transforms import NormalizePercentiles
from mmseg_instancenet.structures import normalize_percentiles

SHAPES = [(13, 17), (13, 17, 1), (13, 17, 2), (13, 17, 3), (13, 17, 5)]
RANGES = {'uint8': (20, 180), 'uint16': (300, 60000), 'int32': (-(2**31), 2**31 - 1), 'float32': (-3, 7)}


def draw(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng, (low, high) = np.random.default_rng(seed), RANGES[dtype]
    image = rng.uniform(low, high, shape) if dtype == 'float32' else rng.integers(low, high, shape)
    return image.astype(dtype)


def percentile(values: np.ndarray, q: float) -> float:
    """Between the two neighbours in the sorted list, in Python's numbers."""
    ordered = sorted(float(value) for value in values.ravel())
    position = q / 100 * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def normalized(values: np.ndarray, low: float, high: float) -> np.ndarray:
    dark, bright = percentile(values, low), percentile(values, high)
    return np.array([min(1, max(0, (float(v) - dark) / (bright - dark))) for v in values.ravel()]).reshape(values.shape)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('dtype', RANGES)
def test_common_percentiles(dtype, shape):
    image = draw(dtype, shape)
    before = image.copy()
    for low, high in ((1, 99.8), (0, 100), (10, 60)):
        result = normalize_percentiles(image, low, high)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, normalized(image, low, high), atol=1e-6)
        dark, bright = np.percentile(image.astype(np.float64), (low, high))
        np.testing.assert_allclose(result, ((image - dark) / (bright - dark)).clip(0, 1), atol=1e-6)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('dtype', RANGES)
def test_percentiles_of_each_channel(dtype, shape):
    image = draw(dtype, shape)
    if image.ndim == 3:  # a contrast of its own for each channel
        image = (image / np.arange(1, 1 + shape[2])).astype(dtype)
    result = normalize_percentiles(image, 2, 90, per_channel=True)
    if image.ndim == 2:
        np.testing.assert_allclose(result, normalized(image, 2, 90), atol=1e-6)
        return
    for channel in range(image.shape[2]):
        np.testing.assert_allclose(result[..., channel], normalized(image[..., channel], 2, 90), atol=1e-6)
    if image.shape[2] > 1:
        assert not np.allclose(result, normalize_percentiles(image, 2, 90), atol=0.05)


def test_defaults_are_1_and_99_8_of_all_channels():
    image = draw('uint16', (40, 50, 3))
    np.testing.assert_allclose(normalize_percentiles(image), normalized(image, 1, 99.8), atol=1e-6)


def test_two_far_neighbours_of_a_signed_type():
    """Their difference does not fit into the type."""
    for dtype in (np.int8, np.int32):
        ends = np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max]], dtype)
        np.testing.assert_allclose(normalize_percentiles(ends, 25, 75), [[0, 1]])
        np.testing.assert_allclose(normalize_percentiles(ends, 0, 100), [[0, 1]])


def test_half_precision_is_no_coarser():
    image = np.array([[1000, 1001, 3000]], np.float16)
    np.testing.assert_allclose(normalize_percentiles(image, 0, 25), [[0, 1, 1]])
    np.testing.assert_allclose(normalize_percentiles(image, 0, 50 + 50 / 1999), [[0, 0.5, 1]], atol=1e-5)


@pytest.mark.parametrize('dtype', RANGES)
def test_constant_image(dtype):
    np.testing.assert_array_equal(normalize_percentiles(np.full((4, 5, 3), 7, dtype)), np.zeros((4, 5, 3)))


def test_few_bright_pixels_on_a_constant_image():
    image = np.full((40, 40), 9, np.uint8)
    image[3, 4], image[5, 6] = 10, 8
    expected = np.zeros((40, 40))
    expected[3, 4] = 1
    np.testing.assert_array_equal(normalize_percentiles(image), expected)


def test_linear_change_of_the_contrast_and_another_type_change_nothing():
    image = draw('uint8', (13, 17, 3))
    expected = normalize_percentiles(image)
    for changed in (image.astype(np.uint16) * 200 + 77, image * 0.001 - 5, image.astype(np.int32) * 10**6):
        np.testing.assert_allclose(normalize_percentiles(changed), expected, atol=1e-6)
    assert np.abs(normalize_percentiles(image.astype(np.float64) ** 2) - expected).max() > 0.1


@pytest.mark.parametrize('low, high', [(-1, 99), (5, 101), (50, 50), (60, 40), (float('nan'), 99), (1, float('nan'))])
def test_percentiles_that_do_not_fit(low, high):
    with pytest.raises(ValueError, match=f'0 <= low < high <= 100, got {low} and {high}'):
        normalize_percentiles(np.zeros((2, 2)), low, high)
    with pytest.raises(ValueError, match=f'0 <= low < high <= 100, got {low} and {high}'):
        NormalizePercentiles(low, high)


@pytest.mark.parametrize('shape', [(0, 5), (4, 0, 3), (4, 5, 0), (5,), (1, 2, 3, 4)])
def test_shape_that_does_not_fit(shape):
    message = rf'\(H, W\) or \(H, W, C\) with pixels, got \({", ".join(map(str, shape))},?\)'
    with pytest.raises(ValueError, match=message):
        normalize_percentiles(np.zeros(shape, np.uint8))


@pytest.mark.parametrize('dtype', [bool, complex, object])
def test_type_that_does_not_fit(dtype):
    with pytest.raises(ValueError, match=f'expected integers or floating point, got {np.dtype(dtype)}'):
        normalize_percentiles(np.zeros((2, 3), dtype))


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('path, named', [('a/b.tif', 'a/b.tif'), (None, 'image')])
def test_refused_pixels_name_the_file(value, path, named):
    image = np.zeros((4, 5, 2), np.float32)
    image[1, 2, 1] = value
    with pytest.raises(ValueError, match=f'^{named}: expected finite pixels, got NaN or infinity'):
        NormalizePercentiles()({'img': image, 'img_path': path})


def test_transform_from_a_config():
    image = draw('uint16', (13, 17, 2))
    transform = Compose([{'type': 'NormalizePercentiles', 'low': 3, 'high': 80, 'per_channel': True}])
    results = transform({'img': image, 'img_path': 'x.png', 'other': 5})
    np.testing.assert_array_equal(results['img'], normalize_percentiles(image, 3, 80, per_channel=True))
    assert results['other'] == 5
