"""Components against scipy's, label by label."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from mmseg_instancenet.structures import split_components


def reference(labels: np.ndarray) -> np.ndarray:
    """8-connected components of each label, numbered in the order of their first pixels."""
    parts = []
    for label in np.unique(labels[labels != 0]):
        components, count = ndimage.label(labels == label, np.ones((3, 3)))
        parts += [components == index for index in range(1, count + 1)]
    result = np.zeros(labels.shape, int)
    for number, part in enumerate(sorted(parts, key=lambda part: np.flatnonzero(part)[0]), 1):
        result[part] = number
    return result


@pytest.mark.parametrize('size', [(12, 17), (1, 30), (30, 1), (1, 1), (2, 2), (40, 7)])
@pytest.mark.parametrize('groups, share', [(1, 0.5), (3, 0.9), (5, 0.4), (2, 1.0)])
def test_random_maps(size, groups, share, device):
    rng = np.random.default_rng(0)
    for _ in range(5):
        labels = rng.integers(1, groups + 1, size) * (rng.random(size) < share)
        found = split_components(torch.from_numpy(labels).to(device))
        assert found.dtype == torch.long
        assert found.device.type == device
        np.testing.assert_array_equal(found.cpu().numpy(), reference(labels))


def test_smooth_maps():
    """Large winding components, which random pixels do not give."""
    rng = np.random.default_rng(1)
    noise = ndimage.gaussian_filter(rng.normal(size=(60, 50)), 2)
    labels = np.digitize(noise, np.quantile(noise, [0.3, 0.5, 0.7]))
    found = split_components(torch.from_numpy(labels)).numpy()
    np.testing.assert_array_equal(found, reference(labels))
    assert found.max() > 10


def test_corners_connect_and_other_groups_separate():
    labels = torch.tensor([[7, 0, 7], [0, 7, 0], [2, 2, 2], [7, 0, 0]])
    assert split_components(labels).tolist() == [[1, 0, 1], [0, 1, 0], [2, 2, 2], [3, 0, 0]]


def test_map_without_groups():
    assert split_components(torch.zeros(3, 4, dtype=torch.long)).tolist() == [[0] * 4] * 3


def test_large_ids_with_gaps():
    labels = torch.tensor([[300_000_001, 300_000_001, 0, 5]])
    assert split_components(labels).tolist() == [[1, 1, 0, 2]]
