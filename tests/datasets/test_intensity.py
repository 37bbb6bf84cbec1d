"""Each change of intensity alone against its formula, and all of them together."""

import re

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose

from mmseg_instancenet.datasets.transforms import RandomIntensity

NOTHING = {'log_gamma': 0, 'gain': (1, 1), 'offset': 0, 'blur': 0, 'noise': 0, 'grey': 0, 'invert': 0}
SHAPES = [(30, 40), (30, 40, 1), (30, 40, 2), (30, 40, 3), (30, 40, 5)]


@pytest.fixture(autouse=True)
def own_seed():
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


def draw(shape: tuple[int, ...] = (30, 40, 3), low: float = 0, high: float = 1) -> np.ndarray:
    return np.random.default_rng(1).uniform(low, high, shape).astype(np.float32)


def changed(image: np.ndarray, **settings) -> np.ndarray:
    return RandomIntensity(**{**NOTHING, **settings})({'img': image.copy()})['img']


@pytest.mark.parametrize('shape', SHAPES)
def test_nothing(shape):
    np.testing.assert_array_equal(changed(draw(shape)), draw(shape))


def test_gamma():
    image, gammas = draw(low=0.05, high=0.95), []
    for _ in range(200):
        result = changed(image, log_gamma=0.4)
        gamma = np.log(result[0, 0, 0]) / np.log(image[0, 0, 0])
        np.testing.assert_allclose(result, image**gamma, rtol=1e-4)
        gammas.append(np.log(gamma))
    assert -0.4 <= min(gammas) < -0.35 and 0.35 < max(gammas) <= 0.4 + 1e-6
    assert abs(np.mean(gammas)) < 0.06  # standard error 0.016


def test_gain():
    image, gains = draw(high=0.8), []
    for _ in range(200):
        result = changed(image, gain=(0.5, 1.2))
        gain = float(result[0, 0, 0] / image[0, 0, 0])
        np.testing.assert_allclose(result, gain * image, rtol=1e-5)
        gains.append(gain)
    assert 0.5 - 1e-6 <= min(gains) < 0.55 and 1.15 < max(gains) <= 1.2 + 1e-6


def test_offset():
    image, offsets = draw(low=0.2, high=0.8), []
    for _ in range(200):
        result = changed(image, offset=0.1)
        offset = float(result[0, 0, 0] - image[0, 0, 0])
        np.testing.assert_allclose(result, image + offset, atol=1e-6)
        offsets.append(offset)
    assert -0.1 - 1e-6 <= min(offsets) < -0.09 and 0.09 < max(offsets) <= 0.1 + 1e-6


def test_values_outside_the_range_are_clipped():
    image = draw()
    np.testing.assert_allclose(changed(image, gain=(3, 3)), np.minimum(3 * image, 1), rtol=1e-5)
    below = 0
    for _ in range(20):
        result = changed(image, offset=0.5)
        below += (result == 0).any()
        assert result.min() >= 0 and result.max() <= 1
    assert below > 0


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """Along the rows and then the columns, the border mirrored about its pixel."""
    radius = int(np.ceil(4 * sigma)) + 1
    weight = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weight /= weight.sum()
    for axis in (0, 1):
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(image.ndim)]
        padded = np.pad(image.astype(np.float64), padding, mode='reflect')
        length = image.shape[axis]
        image = sum(w * np.take(padded, range(i, i + length), axis=axis) for i, w in enumerate(weight))
    return image


@pytest.mark.parametrize('shape', SHAPES)
def test_blur(shape, monkeypatch):
    image = draw(shape)
    draws = iter([0.0, 1.0, 0.0, 0.3, 1.3])  # log gamma, gain, offset, whether to blur, and how much

    def uniform(low=0.0, high=1.0):
        return next(draws, 1.0)

    monkeypatch.setattr(np.random, 'uniform', uniform)
    result = changed(image, blur=0.5, blur_sigma=1.5)
    assert result.shape == shape
    np.testing.assert_allclose(result, gaussian(image, 1.3), atol=2e-3)
    assert np.abs(result - image).max() > 0.2


def test_blur_sigma_is_uniform_up_to_the_largest(monkeypatch):
    sigmas, blur = [], cv2.GaussianBlur
    monkeypatch.setattr(
        cv2, 'GaussianBlur', lambda image, size, sigma: sigmas.append(sigma) or blur(image, size, sigma)
    )
    for _ in range(400):
        changed(draw((5, 6)), blur=0.5, blur_sigma=1.5)
    assert 160 <= len(sigmas) <= 240  # four standard deviations
    assert 0 <= min(sigmas) < 0.05 and 1.45 < max(sigmas) <= 1.5


def test_noise():
    image, deviations = np.full((60, 80, 2), 0.5, np.float32), []
    for _ in range(200):
        noise = changed(image, noise=1, noise_sigma=0.05) - image
        deviations.append(noise.std())
        assert abs(noise.mean()) < 5 * noise.std() / np.sqrt(noise.size)
    assert min(deviations) < 0.003 and 0.047 < max(deviations) < 0.052
    # Of the last: its own draw for each pixel and channel, normal.
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.08
    assert abs(np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]) < 0.08
    assert np.mean(np.abs(noise) < noise.std()) == pytest.approx(0.683, abs=0.03)


@pytest.mark.parametrize('shape', SHAPES)
def test_grey(shape):
    image = draw(shape)
    expected = image if image.ndim == 2 else np.stack([image.astype(float).mean(2)] * shape[2], axis=2)
    np.testing.assert_allclose(changed(image, grey=1), expected, atol=1e-6)


@pytest.mark.parametrize('shape', SHAPES)
def test_inversion(shape):
    np.testing.assert_allclose(changed(draw(shape), invert=1), 1 - draw(shape), atol=1e-6)


def test_order_of_gamma_grey_and_inversion():
    image = draw(high=0.7)
    result = changed(image, gain=(1.4, 1.4), grey=1, invert=1)
    np.testing.assert_allclose(result, np.stack([1 - 1.4 * image.mean(2)] * 3, axis=2), atol=1e-6)


@pytest.mark.parametrize('name', ['grey', 'invert', 'noise'])
def test_probability(name):
    image = draw((4, 5, 3))
    count = sum(not np.array_equal(changed(image, **{name: 0.3}), image) for _ in range(400))
    assert 83 <= count <= 157  # four standard deviations about 120


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('shape', SHAPES)
def test_all_changes_keep_range_type_and_maps(shape, dtype):
    image = draw(shape).astype(dtype)
    maps = {'gt_seg_map': np.arange(1200).reshape(30, 40), 'gt_instance_map': -np.arange(1200).reshape(30, 40)}
    transform = RandomIntensity(blur=0.5, noise=0.5, gain=(0.5, 2), offset=0.3)
    different = 0
    for _ in range(30):
        given = {'img': image.copy(), **{key: value.copy() for key, value in maps.items()}}
        results = transform(given)
        assert results['img'].dtype == np.float32 and results['img'].shape == shape
        assert 0 <= results['img'].min() <= results['img'].max() <= 1
        different += np.abs(results['img'] - image).max() > 0.01
        for key, value in maps.items():
            np.testing.assert_array_equal(results[key], value)
    assert different >= 28


def test_the_input_image_is_not_changed():
    image = draw()
    RandomIntensity(blur=1, noise=1, grey=1, invert=1)({'img': image})
    np.testing.assert_array_equal(image, draw())


def test_same_seed_same_result():
    transform, results = RandomIntensity(blur=0.5), []
    for seed in (3, 3, 4):
        np.random.seed(seed)
        results.append([transform({'img': draw()})['img'] for _ in range(5)])
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])
    assert not np.array_equal(results[0][0], results[0][1])


def test_a_resize_may_leave_the_range_a_little():
    image = np.array([[-5e-5, 0.5, 1 + 5e-5]], np.float32)
    np.testing.assert_array_equal(changed(image), np.array([[0, 0.5, 1]], np.float32))


@pytest.mark.parametrize(
    'image, got',
    [
        (np.array([[3, 200]], np.uint8), 'uint8 from 3 to 200'),
        (np.array([[0, 1]], np.uint8), 'uint8 from 0 to 1'),
        (np.array([[0, 255.0]]), 'float64 from 0.0 to 255.0'),
        (np.array([[-0.5, 1.0]]), 'float64 from -0.5 to 1.0'),
        (np.array([[np.nan, 1.0]]), 'float64 from nan to nan'),
    ],
)
def test_image_that_does_not_fit(image, got):
    with pytest.raises(ValueError, match=re.escape(got) + r": put dict\(type='NormalizePercentiles'\) before it"):
        RandomIntensity()({'img': image})


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'blur': 1.1}, '0 <= blur <= 1, got 1.1'),
        ({'noise': -0.1}, '0 <= noise <= 1, got -0.1'),
        ({'grey': float('nan')}, '0 <= grey <= 1, got nan'),
        ({'invert': 2}, '0 <= invert <= 1, got 2'),
        ({'log_gamma': -1}, 'log_gamma >= 0, got -1'),
        ({'offset': -0.1}, 'offset >= 0, got -0.1'),
        ({'blur_sigma': -1}, 'blur_sigma >= 0, got -1'),
        ({'noise_sigma': float('nan')}, 'noise_sigma >= 0, got nan'),
        ({'gain': (0, 1)}, r'0 < lowest <= highest, got \(0, 1\)'),
        ({'gain': (1.2, 0.7)}, r'0 < lowest <= highest, got \(1.2, 0.7\)'),
        ({'gain': (1,)}, r'gain=\(lowest, highest\)'),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        RandomIntensity(**settings)


def test_after_percentiles_from_a_config():
    image = np.random.default_rng(0).integers(0, 65536, (9, 11, 3)).astype(np.uint16)
    steps = [{'type': 'NormalizePercentiles', 'low': 0, 'high': 100}, {'type': 'RandomIntensity', **NOTHING}]
    result = Compose([*steps])({'img': image})['img']
    expected = (image - float(image.min())) / (float(image.max()) - float(image.min()))
    np.testing.assert_allclose(result, expected, atol=1e-6)
