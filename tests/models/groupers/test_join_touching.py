"""Connected grouping: small groups join groups that they touch, against loops over pixels and groups."""

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from mmseg_instancenet.models import CenterGrouping, ClassGrouping, MeanShiftGrouping
from mmseg_instancenet.models.groupers import group_by_centers
from mmseg_instancenet.models.groupers.base import Grouper, join_touching


class GroupByValue(Grouper):
    """One group for each value of the first embedding value."""

    def group(self, x_ND):
        return x_ND[:, 0].unique(return_inverse=True)[1] + 1


def touched(labels, small, region, number):
    """Pairs (label, small label) of the pixels of the same region around the small group ``number``."""
    height, width = labels.shape
    pairs = set()
    for row, column in np.argwhere(small == number):
        for other_row in range(max(0, row - 1), min(height, row + 2)):
            for other_column in range(max(0, column - 1), min(width, column + 2)):
                if region[other_row, other_column] == region[row, column]:
                    pairs.add((int(labels[other_row, other_column]), int(small[other_row, other_column])))
    return pairs


def plain_join(x, labels, small, region, norm=2):
    """The rule of the docstring, one small group at a time; also how many rounds it took."""
    x, labels = x.astype(np.float64), labels.copy()
    means = {number: x[:, labels == number].mean(1) for number in np.unique(labels[labels > 0])}
    left, rounds = [number for number in np.unique(small) if number > 0], 0
    while True:
        choice = {}
        for number in left:
            mean = x[:, small == number].mean(1)
            groups = sorted({label for label, _ in touched(labels, small, region, number)} - {0})
            if groups:
                distance = [np.linalg.norm(means[group] - mean, ord=norm) for group in groups]
                choice[number] = groups[int(np.argmin(distance))]
        if not choice:
            return labels, rounds
        for number, group in choice.items():
            labels[small == number] = group
        left = [number for number in left if number not in choice]
        rounds += 1


def components(labels):
    """8-connected components of each label, numbered in the order of their first pixels."""
    parts = []
    for label in np.unique(labels[labels != 0]):
        found, count = ndimage.label(labels == label, np.ones((3, 3)))
        parts += [found == index for index in range(1, count + 1)]
    result = np.zeros(labels.shape, int)
    for number, part in enumerate(sorted(parts, key=lambda part: np.flatnonzero(part)[0]), 1):
        result[part] = number
    return result


def without_gaps(labels, keep):
    result = np.zeros_like(labels)
    for number, label in enumerate(sorted(keep), 1):
        result[labels == label] = number
    return result


def plain_connected(x, labels, region, min_size=1, max_groups=10**6, max_instances=10**6, norm=2):
    """The steps after the grouping of each region, whose groups are numbered separately: components, joining, the
    largest."""
    parts = components(labels)
    sizes = {label: int((parts == label).sum()) for label in np.unique(parts[parts > 0])}
    keep = sorted((label for label in sizes if sizes[label] >= min_size), key=lambda label: (-sizes[label], label))
    keep = keep[:max_groups]
    kept, small = without_gaps(parts, keep), without_gaps(parts, set(sizes) - set(keep))
    for row, column in np.argwhere((region > 0) & (labels == 0)):
        small[row, column] = small.max() + 1
    joined, _ = plain_join(x, kept, small, region, norm)
    sizes = {label: int((joined == label).sum()) for label in np.unique(joined[joined > 0])}
    return without_gaps(joined, sorted(sizes, key=lambda label: (-sizes[label], label))[:max_instances])


def random_scene(seed, size=(13, 17), values=4, dims=3):
    """Embeddings whose first value is a whole number that is often that of the neighbours, and regions with gaps."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(dims, *size)).astype(np.float32)
    x[0] = np.clip(np.round(ndimage.gaussian_filter(rng.normal(size=size), 1) * 2 * values), -values, values)
    region = np.kron(rng.integers(0, 3, (-(-size[0] // 5), -(-size[1] // 5))), np.ones((5, 5), int))
    return x, region[: size[0], : size[1]]


def by_value(x, region):
    """Groups of equal first values in each region, numbered on from region to region."""
    labels = np.zeros(region.shape, int)
    for part, value in sorted(set(zip(region[region > 0], x[0][region > 0], strict=True))):
        labels[(x[0] == value) & (region == part)] = labels.max() + 1
    return labels


@pytest.mark.parametrize('norm', [1, 2, math.inf])
@pytest.mark.parametrize('size', [(12, 15), (1, 40), (40, 1), (2, 2), (1, 1)])
def test_join_touching_against_loops(size, norm, device):
    rng = np.random.default_rng(0)
    joined = dropped = 0
    for _ in range(8):
        x = rng.normal(size=(3, *size)).astype(np.float32)
        region = rng.choice([0, 1, 2], size, p=[0.1, 0.7, 0.2])
        number = rng.integers(1, 7, size)
        kind = rng.random(size)  # of each pixel: of a group, of a small group, of neither
        labels = without_gaps(np.where((kind < 0.2) & (region > 0), number + 10 * region, 0), range(1, 40))
        small = np.where((kind > 0.3) & (region > 0) & (labels == 0), number + 10 * region, 0)
        labels = without_gaps(labels, np.unique(labels[labels > 0]))
        small = without_gaps(small, np.unique(small[small > 0]))
        expected, _ = plain_join(x, labels, small, region, norm)
        result = torch.from_numpy(labels.copy()).to(device)
        arguments = (torch.from_numpy(a).to(device) for a in (small, region))
        join_touching(torch.from_numpy(x).to(device), result, *arguments, norm)
        np.testing.assert_array_equal(result.cpu().numpy(), expected)
        joined += int((expected != labels).sum())
        dropped += int(((small > 0) & (expected == 0)).sum())
    assert joined > 0 or size in ((1, 1), (2, 2))
    assert dropped > 0 or size == (12, 15)


@pytest.mark.parametrize('min_size', [2, 3, 5])
@pytest.mark.parametrize('seed', range(6))
def test_connected_grouping_against_loops(seed, min_size, device):
    x, region = random_scene(seed)
    grouper = GroupByValue(connected=True, min_size=min_size)
    result = grouper(torch.from_numpy(x).to(device), torch.from_numpy(region).to(device)).cpu().numpy()
    expected = plain_connected(x, by_value(x, region), region, min_size)
    np.testing.assert_array_equal(result, expected)
    assert expected.max() > 2
    before = components(by_value(x, region))
    assert np.bincount(before[before > 0])[1:].min() < min_size
    # Groups stay connected and within their region, and none has lost a pixel.
    for label in range(1, result.max() + 1):
        assert ndimage.label(result == label, np.ones((3, 3)))[1] == 1
        assert len(np.unique(region[result == label])) == 1
        assert (result == label).sum() >= min_size
    assert not result[region == 0].any()


@pytest.mark.parametrize('settings', [{'max_groups': 5}, {'max_groups': 4, 'min_size': 3}, {'max_groups': 1}])
def test_groups_beyond_the_largest_join_groups_that_they_touch(settings):
    x, region = random_scene(1)
    grouper = GroupByValue(connected=True, **settings)
    with pytest.warns(
        UserWarning, match='the largest stay, the pixels of the others join one that they touch, or are dropped'
    ):
        result = grouper(torch.from_numpy(x), torch.from_numpy(region)).numpy()
    expected = plain_connected(x, by_value(x, region), region, **settings)
    np.testing.assert_array_equal(result, expected)
    assert result.max() == settings['max_groups']
    # More pixels than those of the groups alone.
    parts = components(by_value(x, region))
    assert (result > 0).sum() > np.sort(np.bincount(parts[parts > 0]))[-settings['max_groups'] :].sum()


@pytest.mark.parametrize('min_size', [1, 2])
def test_ungrouped_pixels_join_groups_that_they_touch(min_size):
    """Center grouping stops after ``max_groups`` groups of a region; the pixels that are left have none."""
    x = np.random.default_rng(0).normal(size=(2, 14, 15)).astype(np.float32) * 10
    region = np.ones((14, 15), int)
    region[6], region[10:, 9] = 0, 0
    region[7:] *= 2
    labels = np.zeros(region.shape, int)
    for part in (1, 2):
        found = group_by_centers(
            torch.from_numpy(x[:, region == part]).T, 2.0, max_groups=12, generator=torch.Generator().manual_seed(3)
        ).numpy()
        assert (found == 0).sum() > 20
        labels[region == part] = np.where(found > 0, found + labels.max(), 0)
    grouper = CenterGrouping(threshold=2.0, seed=3, connected=True, max_groups=12, min_size=min_size)
    with pytest.warns(UserWarning, match='max_groups=12'):
        result = grouper(torch.from_numpy(x), torch.from_numpy(region)).numpy()
    np.testing.assert_array_equal(result, plain_connected(x, labels, region, min_size, max_groups=12))
    assert result.max() > 1
    if min_size == 1:  # both regions hold one of the groups
        assert ((result > 0) == (region > 0)).all()


@pytest.mark.parametrize('max_instances', [1, 3])
def test_the_largest_instances_are_those_after_joining(max_instances):
    x, region = random_scene(2)
    grouper = GroupByValue(connected=True, min_size=4, max_instances=max_instances)
    result = grouper(torch.from_numpy(x), torch.from_numpy(region)).numpy()
    expected = plain_connected(x, by_value(x, region), region, 4, max_instances=max_instances)
    np.testing.assert_array_equal(result, expected)
    # A group of 3 that three small ones join is larger than one of 4.
    x = torch.tensor([[[1.0, 1, 1, 2, 3, 4, 0, 5, 5, 5, 5]]])
    grouper = GroupByValue(connected=True, min_size=3, max_instances=1)
    assert grouper(x, (x[0] > 0).long()).tolist() == [[1] * 6 + [0] * 5]


def test_a_chain_of_small_groups_joins_from_its_end(device):
    """Three hundred groups of one pixel in a row and one of two at its end; behind a gap there is nothing to join."""
    x = torch.arange(310.0, device=device).view(1, 1, 310)
    x[..., 1] = 0
    classes = torch.ones(1, 310, dtype=torch.long, device=device)
    classes[0, 302] = 0
    labels = GroupByValue(connected=True, min_size=2)(x, classes)
    assert labels[0].tolist() == [1] * 302 + [0] * 8


def test_a_chain_between_two_groups_is_divided_by_means_and_steps():
    """Groups of means 0 and 9. The small group of mean 4 touches small ones alone, which have joined one group each."""
    values = [0, 0, 0, 1, 4, 8, 9, 9, 9]
    x = torch.tensor(values, dtype=torch.float32).view(1, 1, -1)
    grouper, ones = GroupByValue(connected=True, min_size=3), torch.ones(1, 9, dtype=torch.long)
    assert grouper(x, ones).tolist() == [[1] * 5 + [2] * 4]
    # 5 is nearer to the second group. Of the chain's 6.9 and 0.1 it is the other way round.
    x[0, 0, 3:6] = torch.tensor([6.9, 5.0, 0.1])
    assert grouper(x, ones).tolist() == [[1] * 4 + [2] * 5]


def test_small_groups_that_touch_no_other_are_dropped():
    x = torch.tensor([[[1.0, 1, 0, 2, 3], [1, 1, 0, 0, 0], [0, 0, 4, 0, 6], [7, 0, 0, 0, 0]]])
    classes = (x[0] > 0).long()
    assert GroupByValue(connected=True, min_size=2)(x, classes).tolist() == [
        [1, 1, 0, 0, 0],  # 2 and 3 touch each other alone
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],  # 4 touches at a corner
        [0, 0, 0, 0, 0],
    ]
    # Another class is no neighbour; without classes it is.
    classes[2, 2] = 2
    assert GroupByValue(connected=True, min_size=2)(x, classes)[2, 2] == 0
    assert GroupByValue(connected=True, min_size=2, class_agnostic=True)(x, classes)[2, 2] == 1
    # Nothing is large enough.
    assert not GroupByValue(connected=True, min_size=5)(x, classes).any()


def test_among_equals_the_lowest_number():
    x = torch.tensor([[[1.0, 1, 2, 3, 3]]])
    assert GroupByValue(connected=True, min_size=2)(x, torch.ones(1, 5, dtype=torch.long)).tolist() == [[1, 1, 1, 2, 2]]


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_means_that_are_not_finite_are_the_farthest(value):
    x = torch.tensor([[[value, 5.0, 3.0, value, value]]])
    labels = torch.tensor([[1, 0, 2, 0, 0]])
    join_touching(x, labels, torch.tensor([[0, 1, 0, 2, 3]]), torch.ones_like(labels), norm=2.0)
    assert labels.tolist() == [[1, 2, 2, 2, 2]]


@pytest.mark.parametrize('kind', ['center', 'mean shift'])
def test_where_only_directions_count_embeddings_have_length_1(kind, device):
    """Lengths from 0.1 to 30, which would move the means of the embeddings as they are."""
    rng, moved = np.random.default_rng(0), 0
    grouper = {
        'center': CenterGrouping(distance='cosine', threshold=0.05, connected=True, min_size=4),
        'mean shift': MeanShiftGrouping(concentration=100, connected=True, min_size=4),
    }[kind]
    for _ in range(4):
        axes = np.kron(rng.integers(0, 3, (3, 4)), np.ones((4, 4), int))
        x = np.moveaxis(np.eye(3)[axes], 2, 0) + rng.normal(size=(3, 12, 16)) * 0.25
        x = (x * np.exp(rng.uniform(-2, 3, (12, 16)))).astype(np.float32)
        region = np.ones((12, 16), int)
        unit = F.normalize(torch.from_numpy(x), dim=0)
        labels = grouper.group(unit.flatten(1).T).view(12, 16).numpy()
        result = grouper(torch.from_numpy(x).to(device), torch.from_numpy(region).to(device)).cpu().numpy()
        np.testing.assert_array_equal(result, plain_connected(unit.numpy(), labels, region, 4))
        assert result.max() > 1
        moved += int((plain_connected(x, labels, region, 4) != result).sum())
    assert moved > 0  # by the embeddings as they are, some would have joined another group


def test_small_groups_join_by_the_norm_of_the_grouping():
    """At L1 distances 4.0 and 4.4 from the groups on either side; by L2 the second one is nearer."""
    first, second, small = [0.0, 0.0], [6.2, 2.2], [4.0, 0.0]
    x = torch.tensor([first] * 3 + [small] + [second] * 3).T[:, None, :]
    ones = torch.ones(1, 7, dtype=torch.long)
    for norm, expected in ((1, [1, 1, 1, 1, 2, 2, 2]), (2, [1, 1, 1, 2, 2, 2, 2])):
        grouper = CenterGrouping(threshold=1.0, norm=norm, min_size=2, connected=True)
        assert grouper(x, ones)[0].tolist() == expected


@pytest.mark.parametrize('settings', [{'min_size': 4}, {'min_size': 30}, {'max_groups': 3}])
def test_without_connected_each_pixel_joins_the_nearest_mean_wherever_it_lies(settings):
    x, region = random_scene(3)
    labels = by_value(x, region)
    sizes = {label: int((labels == label).sum()) for label in np.unique(labels[labels > 0])}
    keep = [label for label in sizes if sizes[label] >= settings.get('min_size', 1)]
    keep = sorted(keep, key=lambda label: (-sizes[label], label))[: settings.get('max_groups')]
    expected = without_gaps(labels, keep)
    means = {label: x[:, expected == label].astype(float).mean(1) for label in range(1, len(keep) + 1)}
    regions = {label: region[expected == label][0] for label in means}
    for row, column in np.argwhere((region > 0) & (expected == 0)):
        near = [label for label in means if regions[label] == region[row, column]]
        if near:
            expected[row, column] = min(near, key=lambda label: np.linalg.norm(means[label] - x[:, row, column]))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of too many groups
        result = GroupByValue(**settings)(torch.from_numpy(x), torch.from_numpy(region)).numpy()
    np.testing.assert_array_equal(result, expected)


def test_components_of_a_class_touch_nothing():
    """The baseline of connected components drops small ones, as no two of one class touch."""
    classes = torch.from_numpy(random_scene(4)[1]) * torch.from_numpy(np.random.default_rng(0).integers(0, 2, (13, 17)))
    result = ClassGrouping(connected=True, min_size=6)(torch.full((2, 13, 17), math.nan), classes).numpy()
    parts = components(classes.numpy())
    sizes = np.bincount(parts[parts > 0])
    np.testing.assert_array_equal(result, without_gaps(parts, np.flatnonzero(sizes >= 6)))
    assert result.max() > 1 and (sizes[1:] < 6).any()
