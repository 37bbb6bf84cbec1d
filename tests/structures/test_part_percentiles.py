"""Percentiles of an image in parts are numpy's percentiles of the whole image, to the last bit."""

import numpy as np
import pytest

from mmseg_instancenet.structures import normalize_percentiles, percentile_limits_of_parts, stretch_contrast

PERCENTILES = ((1, 99.8), (0, 100), (25, 25.001), (0.013, 61.7))


def images() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {
        'uint8': rng.integers(0, 256, (23, 31)),
        'uint16': rng.integers(0, 65536, (23, 31, 3)),
        'int16': rng.integers(-32768, 32768, (23, 31, 2)),
        'uint32': rng.integers(0, 2**32, (23, 31)),
        'int32': rng.integers(-(2**31), 2**31, (23, 31, 3)),
        'int64': rng.integers(-(2**40), 2**40, (23, 31)),
        'float16': rng.normal(0, 10, (23, 31)),
        'float32': rng.normal(0, 1e3, (23, 31, 3)),
        'float64': rng.normal(0, 1e-3, (23, 31, 3)),
    }
    return {dtype: image.astype(dtype) for dtype, image in found.items()} | {
        # Values that share their first 16 bits, and both zeros of floating point.
        'close uint32': rng.integers(2**31, 2**31 + 40, (23, 31)).astype(np.uint32),
        'close float32': (1 + rng.integers(0, 9, (23, 31)) * np.float32(2e-7)).astype(np.float32),
        'zeros': rng.choice(np.array([-0.0, 0.0, 1.0], np.float32), (23, 31)),
        'constant': np.full((5, 4, 3), 7, np.uint16),
        'one pixel': np.array([[[9]]], np.uint8),
    }


@pytest.mark.parametrize('name', images())
@pytest.mark.parametrize('per_channel', [False, True])
def test_equal_to_numpy(name, per_channel):
    image = images()[name]
    parts = [image[:9], image[9:, :5], image[9:, 5:]]
    for low, high in PERCENTILES:
        limits = percentile_limits_of_parts(lambda: iter(parts), low, high, per_channel)
        axes = (0, 1) if per_channel else None
        np.testing.assert_array_equal(limits, np.percentile(image.astype(np.float64), (low, high), axis=axes))
        whole = normalize_percentiles(image, low, high, per_channel)
        np.testing.assert_array_equal(stretch_contrast(image[:9, 2:], *limits), whole[:9, 2:])


@pytest.mark.parametrize(
    'parts, message',
    [
        ([], 'expected an image with pixels, got no part that has any'),
        ([np.zeros((2, 2), bool)], 'expected integers or floating point, got bool'),
        ([np.zeros((2, 2)), np.full((2, 2), np.nan)], 'expected finite pixels, got NaN or infinity'),
    ],
)
def test_what_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        percentile_limits_of_parts(lambda: parts)
    with pytest.raises(ValueError, match='0 <= low < high <= 100, got 3 and 2'):
        percentile_limits_of_parts(lambda: parts, 3, 2)
