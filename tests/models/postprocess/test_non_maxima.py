"""Non-maximum suppression of boundary maps."""

import math

import numpy as np
import pytest
import torch

from mmseg_instancenet.models.postprocess.non_maxima import suppress_non_maxima


def ridge(angle, size=(48, 64), width=3.0, height=0.9):
    """A straight ridge through the middle whose normal has this angle from the x axis, and each pixel's distance from it."""
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    y, x = y - (size[0] - 1) / 2, x - (size[1] - 1) / 2
    distance = x * math.cos(angle) + y * math.sin(angle)
    return torch.from_numpy(height * np.exp(-((distance / width) ** 2))), np.abs(distance)


def test_errors():
    with pytest.raises(ValueError, match=r'map \(H, W\), got \(1, 4, 4\) torch.float32'):
        suppress_non_maxima(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match=r'\(4, 4\) torch.int64'):
        suppress_non_maxima(torch.zeros(4, 4, dtype=torch.long))


@pytest.mark.parametrize('degrees', range(0, 180, 15))
def test_a_straight_ridge_becomes_a_line_on_its_crest(degrees):
    probability, distance = ridge(math.radians(degrees))
    result = suppress_non_maxima(probability).numpy()
    kept = result > 0
    kept[:6], kept[-6:], kept[:, :6], kept[:, -6:] = (False,) * 4
    inside = np.zeros_like(kept)
    inside[6:-6, 6:-6] = True
    # Values stay; what is on the crest stays, what is not goes.
    assert np.array_equal(result[kept], probability.numpy()[kept])
    assert kept[inside & (distance < 0.3)].all()
    high = probability.numpy() > 0.05
    assert not kept[inside & high & (distance > 1.5)].any()


def test_a_circle():
    y, x = np.mgrid[:64, :64] - 31.5
    distance = np.abs(np.hypot(y, x) - 18)
    result = suppress_non_maxima(torch.from_numpy(np.exp(-((distance / 2) ** 2)))).numpy()
    assert (result[distance < 0.3] > 0).all()
    assert not (result[(distance > 1.5) & (distance < 4)] > 0).any()


def test_parallel_lines_both_stay():
    columns = torch.tensor([0.0, 0.2, 0.8, 0.3, 0.2, 0.3, 0.6, 0.2, 0.0], dtype=torch.float64)
    result = suppress_non_maxima(columns.repeat(12, 1))
    assert (result > 0).all(0).tolist() == [False, False, True, False, False, False, True, False, False]


def test_turned_maps_give_turned_results():
    map_HW = torch.rand(40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = suppress_non_maxima(map_HW)
    assert 0.05 < (expected > 0).double().mean() < 0.7
    for turn in (lambda x: x.T, lambda x: x.flip(0), lambda x: x.flip(1), lambda x: x.rot90()):
        torch.testing.assert_close(suppress_non_maxima(turn(map_HW).contiguous()), turn(expected))


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (2, 2), (3, 9)])
def test_small_and_flat_maps_stay(size):
    flat = torch.full(size, 0.4)
    assert torch.equal(suppress_non_maxima(flat), flat)
    assert not suppress_non_maxima(torch.zeros(size)).any()
