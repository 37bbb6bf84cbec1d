"""What every grouper keeps for random embeddings, and the groups of plain references."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from label_batches import generators, rotation, seeds
from references.center_grouping import group_one_by_one
from references.dense_mean_shift import dense_loops
from references.seed_grouping import group_pixel_by_pixel
from scipy.sparse.csgraph import connected_components

from mmseg_instancenet.models import CenterGrouping, ClassGrouping, MeanShiftGrouping, SeedGrouping
from mmseg_instancenet.models.groupers import group_by_centers, group_by_mean_shift, group_by_seeds


def centers(**settings):
    """Center grouping by a given order of the draw."""

    def group(x_ND, order_N):
        with patch('mmseg_instancenet.models.groupers.center._draw', lambda region_N, generator: order_N):
            return group_by_centers(x_ND, **settings)

    return group


def without_draw(function, **settings):
    return lambda x_ND, order_N: function(x_ND, **settings)


FUNCTIONS = {
    'center-fixed': centers(threshold=1.2, shift=False),
    'center-shift': centers(threshold=1.2),
    'center-shift, cosine': centers(threshold=0.3, distance='cosine'),
    'mean shift': without_draw(group_by_mean_shift, concentration=10.0),
    'mean shift, norm': without_draw(group_by_mean_shift, concentration=4.0, kernel='norm'),
    'seeds': without_draw(group_by_seeds),
}
EUCLIDEAN = ['center-fixed', 'center-shift', 'mean shift, norm', 'seeds']
SPHERICAL = ['center-shift, cosine', 'mean shift']
each_function = pytest.mark.parametrize('name', FUNCTIONS)


@st.composite
def clouds(draw):
    """Up to 60 embeddings (N, D) float64 in clusters that overlap, and an order of them."""
    generator = generators(draw)
    count, dims = draw(st.integers(1, 60)), draw(st.integers(3, 5))
    center = draw(st.sampled_from([1.0, 2.0, 4.0])) * torch.randn(draw(st.integers(1, 6)), dims, generator=generator)
    x = center[torch.randint(len(center), (count,), generator=generator)]
    x = x + draw(st.sampled_from([0.1, 0.5])) * torch.randn(count, dims, generator=generator)
    return x.double(), torch.randperm(count, generator=generator)


def same_partition(first, second):
    """Equal up to the numbers of the groups."""
    assert len(torch.stack([first, second]).unique(dim=1).T) == len(first.unique()) == len(second.unique())


@each_function
@given(cloud=clouds(), generator=seeds())
def test_order_of_pixels(name, cloud, generator):
    """A draw travels with the pixels."""
    x, order = cloud
    place = torch.randperm(len(x), generator=generator)  # pixel k of the second is pixel place[k] of the first
    same_partition(FUNCTIONS[name](x[place], place.argsort()[order]), FUNCTIONS[name](x, order)[place])


@each_function
@given(cloud=clouds(), copies=st.integers(2, 3))
def test_every_pixel_several_times(name, cloud, copies):
    x, order = cloud
    of_copies = FUNCTIONS[name](
        x.repeat_interleave(copies, dim=0), (order[:, None] * copies + torch.arange(copies)).flatten()
    )
    same_partition(of_copies, FUNCTIONS[name](x, order).repeat_interleave(copies))


@pytest.mark.parametrize('name', EUCLIDEAN)
@given(cloud=clouds(), generator=seeds())
def test_translation_and_rotation_of_euclidean_embeddings(name, cloud, generator):
    x, order = cloud
    dims = x.shape[1] - 2 if name == 'seeds' else x.shape[1]
    moved = torch.randn(dims, generator=generator).double() + x[:, :dims] @ rotation(dims, generator)
    same_partition(FUNCTIONS[name](torch.cat([moved, x[:, dims:]], dim=1), order), FUNCTIONS[name](x, order))


@pytest.mark.parametrize('name', SPHERICAL)
@given(cloud=clouds(), generator=seeds())
def test_rotation_and_lengths_of_spherical_embeddings(name, cloud, generator):
    x, order = cloud
    length = 10 ** (8 * torch.rand(len(x), 1, generator=generator).double() - 4)
    same_partition(FUNCTIONS[name](length * x @ rotation(x.shape[1], generator), order), FUNCTIONS[name](x, order))


@pytest.mark.parametrize('shift', [False, True])
@given(cloud=clouds(), norm=st.sampled_from([1, 2, np.inf]))
def test_centers_are_those_of_the_plain_reference(shift, cloud, norm):
    """One founder a round: with many, center-shift finds other groups where clusters overlap."""
    x, order = cloud
    with patch('mmseg_instancenet.models.groupers.rounds._MOST_FOUNDERS', 1):
        actual = centers(threshold=1.2, shift=shift, norm=norm)(x, order)
    np.testing.assert_array_equal(actual.numpy(), group_one_by_one(x.numpy(), 1.2, shift, order.numpy(), norm))


@given(cloud=clouds(), seed_threshold=st.sampled_from([0.2, 0.5, 0.9]), mask_threshold=st.sampled_from([0.1, 0.5, 0.8]))
def test_seeds_are_those_of_the_plain_reference(cloud, seed_threshold, mask_threshold):
    x, thresholds = cloud[0], dict(seed_threshold=seed_threshold, mask_threshold=mask_threshold)
    expected = group_pixel_by_pixel(x.numpy(), **thresholds)
    np.testing.assert_array_equal(group_by_seeds(x, **thresholds).numpy(), expected)


@pytest.mark.parametrize(('kernel', 'concentration'), [('cosine', 10.0), ('norm', 4.0)])
@given(cloud=clouds())
def test_mean_shift_is_that_of_the_dense_reference(kernel, concentration, cloud):
    """Three iterations, and the components of what lies within one bandwidth then."""
    loops = dense_loops(cloud[0], concentration, 3, kernel)
    near = torch.cdist(loops[-1], loops[-1]) <= concentration**-0.5
    actual = group_by_mean_shift(cloud[0], concentration, kernel=kernel, max_loops=3, tolerance=0.0)
    same_partition(actual, torch.from_numpy(connected_components(near.numpy())[1]))


GROUPERS = {
    'center-fixed': CenterGrouping(mode='fixed', min_size=2),
    'center-shift': CenterGrouping(connected=True, min_size=2),
    'mean shift': MeanShiftGrouping(concentration=10.0),
    'mean shift, norm': MeanShiftGrouping(kernel='norm', concentration=4.0, class_agnostic=True),
    'seeds': SeedGrouping(connected=True),
    'classes': ClassGrouping(connected=True),
}
each_grouper = pytest.mark.parametrize('name', GROUPERS)


@st.composite
def maps(draw):
    """Embeddings (D, h, w) float32 and classes (h, w): background, 1, 2, 3 and ignored."""
    generator = generators(draw)
    size = (draw(st.integers(1, 8)), draw(st.integers(1, 8)))
    x = draw(st.sampled_from([0.5, 2.0])) * torch.randn(3, *size, generator=generator)
    classes = torch.tensor(draw(st.lists(st.sampled_from([0, 1, 2, 3, 255]), min_size=1, max_size=5, unique=True)))
    return x, classes[torch.randint(len(classes), size, generator=generator)]


@each_grouper
@given(scene=maps(), generator=seeds(), columns=st.integers(1, 4), class_=st.sampled_from([0, 255]))
def test_more_pixels_that_are_not_grouped(name, scene, generator, columns, class_):
    x, classes = scene
    extra = 100 * torch.randn(3, len(classes), columns, generator=generator)
    grouped = GROUPERS[name](
        torch.cat([x, extra], 2), torch.cat([classes, torch.full((len(classes), columns), class_)], 1)
    )
    assert torch.equal(grouped[:, : classes.shape[1]], GROUPERS[name](x, classes))
    assert not grouped[:, classes.shape[1] :].any()


@each_grouper
@given(scene=maps(), numbers=st.permutations([1, 2, 3, 18, 254]))
def test_other_classes(name, scene, numbers):
    x, classes = scene
    renamed = torch.where((classes > 0) & (classes < 4), torch.tensor(numbers)[classes.clamp(1, 5) - 1], classes)
    same_partition(GROUPERS[name](x, renamed).flatten(), GROUPERS[name](x, classes).flatten())


@each_grouper
@given(scene=maps())
def test_groups_are_numbered_without_gaps_within_their_class(name, scene):
    x, classes = scene
    labels = GROUPERS[name](x, classes)
    foreground = (classes > 0) & (classes != 255)
    assert not labels[~foreground].any()
    numbers = labels.unique()
    assert numbers[numbers > 0].tolist() == list(range(1, int(labels.max()) + 1))
    if not GROUPERS[name].class_agnostic:
        pairs = torch.stack([labels, classes])[:, labels > 0].unique(dim=1)
        assert pairs.shape[1] == labels.max()
    if not GROUPERS[name].connected and GROUPERS[name].min_size == 1:  # small groups without a larger one are dropped
        assert labels[foreground].all()
