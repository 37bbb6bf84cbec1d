"""Grouping around seeds, against loops over pixels."""

import math
import warnings

import numpy as np
import pytest
import torch
from references.peak_memory import peak_memory
from references.seed_grouping import group_pixel_by_pixel

from mmseg_instancenet.models import CenterGrouping, ClassGrouping, MeanShiftGrouping
from mmseg_instancenet.models.groupers import SeedGrouping, group_by_seeds, rounds
from mmseg_instancenet.structures import EmbeddingMargins


def blobs(seed, count=150, dims=2):
    """Clusters of different widths that overlap, with seeds that fall from their centers outwards: (N, dims + 2)."""
    rng = np.random.default_rng(seed)
    centers, widths = rng.normal(size=(6, dims)) * 3, rng.uniform(0.2, 1.5, 6)
    of = rng.integers(6, size=count)
    offset = rng.normal(size=(count, dims)) * widths[of][:, None]
    bandwidth = -np.log(2 * widths[of] ** 2) + rng.normal(size=count) * 0.3
    logit = 3 - 2 * (offset**2).sum(1) / widths[of] ** 2 + rng.normal(size=count)
    return np.column_stack([centers[of] + offset, bandwidth, logit])


@pytest.mark.parametrize('dims', [1, 2, 4])
@pytest.mark.parametrize('seed_threshold, mask_threshold', [(0.5, 0.5), (0.9, 0.5), (0.5, 0.1), (0.2, 0.8)])
@pytest.mark.parametrize('seed', range(3))
def test_agrees_with_the_plain_reference_pixel_for_pixel(seed, seed_threshold, mask_threshold, dims, device):
    x = blobs(seed, dims=dims)
    thresholds = dict(seed_threshold=seed_threshold, mask_threshold=mask_threshold)
    expected = group_pixel_by_pixel(x, **thresholds)
    actual = group_by_seeds(torch.from_numpy(x).to(device), **thresholds)
    assert expected.max() > 1
    assert (1 / (1 + np.exp(-x[:, -1])) <= seed_threshold).any()
    np.testing.assert_array_equal(actual.cpu().numpy(), expected)


def test_pixels_are_grouped_block_by_block(monkeypatch):
    x = torch.from_numpy(blobs(0))
    expected = group_by_seeds(x, seed_threshold=0.9)
    monkeypatch.setattr('mmseg_instancenet.models.groupers.seeds._BLOCK', 10)
    assert torch.equal(group_by_seeds(x, seed_threshold=0.9), expected)


def test_every_group_has_the_bandwidth_of_its_seed():
    # Two seeds at 0 and 10: a wide mask reaches 8 units, a narrow one 0.8. The last pixel is in neither; 6 / 8 < 4.5 / 0.8.
    reach = [-2 * math.log(radius) + math.log(math.log(2)) for radius in (8.0, 0.8)]
    position = torch.tensor([0.0, 7.9, 10.0, 10.7, 10.9])
    bandwidth = torch.tensor([reach[0], 0, reach[1], 0, 0])
    logit = torch.tensor([3.0, -1, 2, -1, -1])
    assert group_by_seeds(torch.stack([position, bandwidth, logit], 1)).tolist() == [1, 1, 2, 2, 2]
    position[4] = 5.5 + 8
    assert group_by_seeds(torch.stack([position, bandwidth, logit], 1)).tolist() == [1, 1, 2, 2, 1]


@pytest.mark.parametrize('logit', [0.0, -3.0])
def test_without_a_seed_all_pixels_are_one_group(logit):
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    x[:, -1] = logit  # at 0 the seed is 0.5, which does not exceed it
    assert group_by_seeds(x).tolist() == [1] * 20
    assert group_by_seeds(x[:1]).tolist() == [1]
    assert group_by_seeds(x[:0]).tolist() == []


def test_among_equal_seeds_the_first_pixel_founds_the_first_group():
    x = torch.tensor([[9.0, 0.0, 1.0], [0.0, 0.0, 1.0], [5.0, 0.0, 1.0]])
    assert group_by_seeds(x).tolist() == [1, 2, 3]


@pytest.mark.parametrize('bandwidth', [-1000.0, 100.0, 1000.0])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_bandwidths_that_exp_cannot_hold(bandwidth, dtype, device):
    x = torch.tensor([[0.0, bandwidth, 3.0], [1.0, bandwidth, 2.0], [1.0, bandwidth, 1.0], [2.0, bandwidth, -1.0]])
    labels = group_by_seeds(x.to(device, dtype)).tolist()
    assert labels == ([1, 1, 1, 1] if bandwidth < 0 else [1, 2, 2, 2])


def test_small_distances_between_large_coordinates(device):
    """Pixels below the threshold of seeds join the nearer of two seeds 0.004 apart at 3000 pixels of 8 pixels a unit."""
    x = torch.zeros(102, 4)
    x[:, :2] = 375
    x[1, 0] += 0.004
    x[2:, 0] += torch.tensor([0.001, 0.003]).repeat(50)
    x[:, 2], x[:2, 3], x[2:, 3] = 14.5, 2, -2
    labels = group_by_seeds(x.to(device)).tolist()
    assert labels == [1, 2] + [1, 2] * 50


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_computes_in_float32_also_under_autocast(dtype):
    x = torch.from_numpy(blobs(1)).to(dtype)
    expected = group_by_seeds(x.float())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(group_by_seeds(x), expected)
        assert torch.equal(group_by_seeds(x.float()), expected)
    np.testing.assert_array_equal(expected.numpy(), group_pixel_by_pixel(x.double().numpy()))


def test_the_input_stays_as_it_is():
    x = torch.from_numpy(blobs(1))
    before = x.clone()
    group_by_seeds(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize('max_groups', [1, 3, 100])
def test_at_most_so_many_groups_are_found(max_groups):
    x = blobs(2)
    expected = group_pixel_by_pixel(x, max_groups=max_groups)
    assert (0 in expected) == (max_groups < 100)
    labels = group_by_seeds(torch.from_numpy(x), max_groups=max_groups).numpy()
    np.testing.assert_array_equal(labels, expected)
    # Pixels below the threshold of seeds stop nothing: as many groups as there are.
    count = group_pixel_by_pixel(x).max()
    assert group_by_seeds(torch.from_numpy(x), max_groups=count).min() == 1


@pytest.mark.parametrize('connected', [False, True])
def test_scattered_seeds_make_a_bounded_number_of_groups_and_one_warning(connected):
    """Seeds of an untrained network: without a limit, nearly every pixel would be a group."""
    x_Dhw = torch.randn(4, 30, 30, generator=torch.Generator().manual_seed(0))
    x_Dhw[:2], x_Dhw[3] = x_Dhw[:2] * 100, x_Dhw[3].abs() + 0.1
    ones = torch.ones(30, 30, dtype=torch.long)
    grouper = SeedGrouping(max_groups=20, connected=connected)
    with pytest.warns(UserWarning, match='SeedGrouping: .*at most max_groups=20 groups.*found 2. or more'):
        labels = grouper(x_Dhw, ones)
    assert int(labels.max()) == 20
    assert (labels > 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert int(SeedGrouping(connected=connected)(x_Dhw, ones).max()) > 800


def test_regions_are_grouped_by_themselves(device):
    """Two objects of two classes at one position: class by class two groups, or one for both."""
    x_Dhw = torch.zeros(4, 3, 6, device=device)
    x_Dhw[0, :, 4:], x_Dhw[3] = 9, 2
    classes = torch.tensor([[0, 1, 2, 255, 2, 2]], device=device).repeat(3, 1)
    assert SeedGrouping()(x_Dhw, classes)[0].tolist() == [0, 1, 2, 0, 3, 3]
    assert SeedGrouping(class_agnostic=True)(x_Dhw, classes)[0].tolist() == [0, 1, 1, 0, 2, 2]
    assert not SeedGrouping()(x_Dhw, torch.zeros_like(classes)).any()


@pytest.mark.parametrize('connected', [True, False])
def test_small_groups_join_by_position_whatever_their_bandwidth_and_seed(connected):
    """A pixel of its own between two objects, nearer to the first by x, to the second by bandwidth and seed."""
    first, second, small = [0.0, 0.0, 0.0, 9.0], [6.0, 0.0, 3.0, 1.0], [2.0, 0.0, 3.0, 1.0]
    assert np.linalg.norm(np.subtract(small, second)) < np.linalg.norm(np.subtract(small, first))
    x_Dhw = torch.tensor([first] * 3 + [small] + [second] * 3).T[:, None, :]
    ones = torch.ones(1, 7, dtype=torch.long)
    assert len(SeedGrouping()(x_Dhw, ones).unique()) == 3
    labels = SeedGrouping(min_size=2, connected=connected)(x_Dhw, ones)
    assert labels[0].tolist() == [1, 1, 1, 1, 2, 2, 2]


def test_the_class_groups_one_region_as_the_function_does():
    x_ND = torch.from_numpy(blobs(0))
    grouper = SeedGrouping(seed_threshold=0.9, mask_threshold=0.3, max_groups=3)
    expected = group_pixel_by_pixel(blobs(0), 0.9, 0.3, max_groups=3)
    assert 0 < expected.max() <= 3
    np.testing.assert_array_equal(grouper.group(x_ND).numpy(), expected)


def test_seed_grouping_alone_leaves_values_out_of_comparisons():
    x_Dhw = torch.randn(4, 2, 3)
    assert torch.equal(SeedGrouping().compared(x_Dhw), x_Dhw[:2])
    for grouper in (CenterGrouping(), ClassGrouping(), MeanShiftGrouping()):
        assert grouper.compared(x_Dhw) is x_Dhw


@pytest.mark.parametrize('name', ['seed_threshold', 'mask_threshold'])
@pytest.mark.parametrize('value', [0, 1, -0.5, 1.5, float('nan')])
def test_thresholds_lie_between_0_and_1(name, value):
    with pytest.raises(ValueError, match=rf'expected {name} in \(0, 1\), got {value}'):
        SeedGrouping(**{name: value})
    with pytest.raises(ValueError, match=rf'expected {name} in \(0, 1\), got {value}'):
        group_by_seeds(torch.zeros(2, 3), **{name: value})


def test_values_that_are_not_finite_or_of_another_shape():
    with pytest.raises(ValueError, match=r'embedding, bandwidth and seed, got \(5, 2\)'):
        group_by_seeds(torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r'embedding, bandwidth and seed, got \(5,\)'):
        group_by_seeds(torch.zeros(5))
    for value in (float('nan'), float('inf')):
        for column in range(4):
            x = torch.zeros(5, 4)
            x[2, column] = value
            with pytest.raises(ValueError, match='finite embeddings'):
                group_by_seeds(x)


def test_a_loss_with_margins_trains_no_seeds():
    with pytest.raises(
        ValueError, match='SeedGrouping: expected a loss that trains.*SoftMaskLoss.* 0.2 within and 6 between'
    ):
        SeedGrouping().check_margins(EmbeddingMargins('norm', 0.2, 6.0))


def test_memory_does_not_grow_with_the_number_of_groups():
    peaks = []
    for groups in (10, 200):
        position = torch.arange(40000) // (40000 // groups) * 10.0
        x = torch.stack([position, torch.zeros(40000), torch.full((40000,), 2.0), torch.linspace(1, 2, 40000)], dim=1)
        assert group_by_seeds(x).max() == groups
        peaks.append(peak_memory(lambda x=x: group_by_seeds(x)))
    assert peaks[1] < 1.5 * peaks[0], peaks
    assert max(peaks) < 24 * 2**20, peaks  # 262,144 pairs of two integers, with their embeddings


def test_each_region_is_grouped_as_if_it_were_alone(device):
    """The third region has no seed above the threshold: it is one group."""
    x = torch.from_numpy(blobs(3)).to(device)
    region = torch.arange(150, device=device) % 4 * 5
    x[region == 10, -1] = -1
    labels = group_by_seeds(x, region_N=region)
    found = 0
    for number in (0, 5, 10, 15):
        alone = group_by_seeds(x[region == number])
        assert torch.equal(labels[region == number], alone + found)
        found += int(alone.max())
        assert number != 10 or alone.max() == 1


def test_pixels_near_others_alone_are_looked_at(monkeypatch, device):
    """The same groups with few founders a round, and with all at once."""
    x = torch.from_numpy(blobs(4, 600)).to(device)
    expected = group_pixel_by_pixel(x.cpu().numpy())
    for founders, pairs in ((1, 1), (7, 50), (600, 10**6)):
        monkeypatch.setattr(rounds, '_MOST_FOUNDERS', founders)
        monkeypatch.setattr(rounds, '_PAIRS', {'cpu': (pairs, pairs), 'cuda': (pairs, pairs)})
        np.testing.assert_array_equal(group_by_seeds(x).cpu().numpy(), expected)
