"""Mean-shift grouping: iterations, groups, and the warning about groups that merge."""

import functools
import math
import warnings
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from devices import slack
from mmseg.registry import MODELS
from references.dense_mean_shift import blobs, clusters, dense_loops, take
from references.host_reads import host_reads
from references.peak_memory import peak_memory
from sklearn.metrics import adjusted_rand_score

from mmseg_instancenet.models import DiscriminativeLoss, MeanShiftGrouping
from mmseg_instancenet.models.groupers import group_by_mean_shift
from mmseg_instancenet.models.groupers.mean_shift import _iteration, attraction_ratio
from mmseg_instancenet.models.losses import SphericalPairLoss
from mmseg_instancenet.models.mean_shift.iteration import KernelSettings, shift
from mmseg_instancenet.structures import EmbeddingMargins

MODULE = 'mmseg_instancenet.models.groupers.mean_shift.'


def large_background(count=1000, dims=16, spread=0.1):
    """Unit vectors along six axes with a little noise: 95 % in the first group, 1 % in each of the others."""
    true = torch.repeat_interleave(torch.arange(6), torch.tensor([count * 95 // 100] + [count // 100] * 5))
    generator = torch.Generator().manual_seed(0)
    x = torch.eye(dims)[true] + spread / dims**0.5 * torch.randn(count, dims, generator=generator)
    return F.normalize(x, dim=1), true


def separated(groups, dims, least, seed=0):
    """Unit vectors no two of which are nearer than ``least``."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.empty(0, dims)
    while len(chosen) < groups:
        candidate = F.normalize(torch.randn(1, dims, generator=generator), dim=1)
        if len(chosen) == 0 or torch.cdist(candidate, chosen).min() > least:
            chosen = torch.cat([chosen, candidate])
    return chosen


def same_groups(a, b):
    return adjusted_rand_score(a.reshape(-1).tolist(), b.reshape(-1).tolist()) == 1


def test_smoke():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]])
    assert group_by_mean_shift(x, 100).tolist() == [1, 2, 1, 2]
    assert group_by_mean_shift(x[:1], 100).tolist() == [1]
    assert group_by_mean_shift(x.half(), 100).tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(concentration=0), 'concentration > 0, got 0'),
        (dict(concentration=-1.0), 'concentration > 0, got -1.0'),
        (dict(kernel='flat'), "'cosine' or 'norm', got 'flat'"),
        (dict(step_size=0), r'step_size in \(0, 1\], got 0'),
        (dict(max_loops=0), 'max_loops >= 1, got 0'),
        (dict(tolerance=-0.1), 'tolerance >= 0 bandwidths, got -0.1'),
    ],
)
def test_invalid_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        MeanShiftGrouping(**settings)
    with pytest.raises(ValueError, match=message):
        group_by_mean_shift(torch.ones(3, 2), **{'concentration': 1.0, **settings})


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(min_size=0), 'min_size >= 1.*0'),
        (dict(max_instances=0), 'max_instances >= 1.*0'),
        (dict(background_groups=True), 'with class_agnostic=True and connected=False'),
        (
            dict(background_groups=True, class_agnostic=True, connected=True),
            'with class_agnostic=True and connected=False',
        ),
    ],
)
def test_settings_of_every_grouper(settings, message):
    with pytest.raises(ValueError, match=message):
        MeanShiftGrouping(**settings)


def test_embeddings_that_are_not_finite_or_of_another_shape():
    ones = torch.ones(2, 2, dtype=torch.long)
    for value in (float('nan'), float('inf'), 1e30):  # the square of the last is infinite in float32
        embeddings = torch.ones(2, 2, 2)
        embeddings[0, 0, 0] = value
        for kernel in ('cosine', 'norm'):
            with pytest.raises(ValueError, match='finite embeddings.*1 of 4'):
                MeanShiftGrouping(kernel=kernel)(embeddings, ones)
    with pytest.raises(ValueError, match='at most 6.95e[+]07 bandwidths, got 3.16e[+]08 at concentration 10'):
        group_by_mean_shift(torch.tensor([[0.0], [1e8]]), 10.0, kernel='norm')
    with pytest.raises(ValueError, match=r'P >= 1, got \(0, 3\)'):
        group_by_mean_shift(torch.zeros(0, 3), 1.0)
    with pytest.raises(ValueError, match=r'expected embeddings \(D, h, w\).*\(2, 2, 2\) and \(3, 2\)'):
        MeanShiftGrouping()(torch.zeros(2, 2, 2), torch.ones(3, 2, dtype=torch.long))


@pytest.mark.parametrize('concentration', [100, 25])
def test_a_large_background_and_five_small_groups_stay_six_over_forty_loops(concentration):
    x, true = large_background()
    labels = group_by_mean_shift(x, concentration, max_loops=40, tolerance=0)
    assert int(labels.max()) == 6 and same_groups(labels, true)


def test_at_the_texts_concentration_the_background_absorbs_them():
    x, true = large_background()
    assert int(group_by_mean_shift(x, 6, max_loops=40, tolerance=0).max()) == 1
    # A bandwidth of 1 / sqrt(6) of right angles: the groups would be told apart, had they not been moved.
    expected = dense_loops(x, 6, 3)[-1]
    means = F.normalize(torch.stack([expected[true == k].mean(0) for k in range(6)]), dim=1)
    assert float(torch.pdist(means[[0, 1]])) < 0.4


def grouper_of(concentration=100.0, loss=None, **settings):
    grouper = MeanShiftGrouping(concentration, class_agnostic=True, **settings)
    grouper.check_margins((loss or SphericalPairLoss(margin=0.5)).margins(16))
    return grouper


def test_without_the_margins_of_a_loss_no_reach_is_known():
    assert grouper_of(6).reaches_far(100.0) and not grouper_of(100.0).reaches_far(100.0)
    assert not MeanShiftGrouping(6).reaches_far(100.0)
    # At right angles exp(-6) = .0025 of the attraction is left: one per cent is reached by a group four times as large.
    assert grouper_of(6).reaches_far(4.1) and not grouper_of(6).reaches_far(4.0)


def test_the_warning_of_groups_that_reach_each_other():
    x, _ = large_background()
    embeddings, classes = x.T.reshape(16, 20, 50), torch.ones(20, 50, dtype=torch.long)
    with pytest.warns(
        UserWarning, match=r'at concentration 6 a group 100 times as large.*0.25 times.*Raise the concentration$'
    ):
        grouper = grouper_of(6, min_size=10)
        grouper(embeddings, classes)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        grouper(embeddings, classes)  # once
        for quiet in (grouper_of(), grouper_of(25), MeanShiftGrouping(6)):
            quiet(embeddings, classes)
        grouper_of(100, kernel='cosine', loss=DiscriminativeLoss())(embeddings, classes)
        grouper_of(2, kernel='norm', loss=DiscriminativeLoss())(embeddings, classes)
    with pytest.warns(UserWarning, match=r'at concentration 0.25 a group 1000 times as large.*apart by 6 \(norm\)'):
        grouper_of(0.25, kernel='norm', loss=DiscriminativeLoss())(embeddings, classes)


def test_reach_is_the_ratio_of_two_attractions():
    """Against the kernel itself: two groups on points, 95 pixels and 1."""
    angle = math.acos(1 - 0.8)
    big, small = torch.tensor([1.0, 0.0]), torch.tensor([math.cos(angle), math.sin(angle)])
    for kernel, margins in (
        ('cosine', EmbeddingMargins('cosine', 0.0, 0.8)),
        ('norm', EmbeddingMargins('cosine', 0.0, 0.8)),
        ('norm', EmbeddingMargins('norm', 0.1, float((big - small).norm()) + 0.2)),
    ):
        log_kernel = 5 * float(big @ small) if kernel == 'cosine' else -2.5 * float((big - small).square().sum())
        own = 5 * float(small @ small) if kernel == 'cosine' else 0.0
        assert attraction_ratio(5.0, kernel, margins, 95) == pytest.approx(95 * math.exp(log_kernel - own))
    assert attraction_ratio(5.0, 'cosine', EmbeddingMargins('norm', 0.1, 6.0), 95) == 0
    assert attraction_ratio(5.0, 'norm', EmbeddingMargins('norm', 3.0, 1.0), 95) == 95  # groups that may overlap


def test_a_hundred_and_fifty_groups_whatever_the_order_of_the_pixels():
    generator = torch.Generator().manual_seed(1)
    center = separated(150, 16, least=0.6)
    true = torch.randint(150, (20000,), generator=generator)
    x = center[true] + 0.03 / 4 * torch.randn(20000, 16, generator=generator)
    labels = group_by_mean_shift(x, 100)
    assert int(labels.max()) == 150
    assert same_groups(labels, true)
    # Numbers in order of the first member.
    first = [int((labels == k).nonzero()[0]) for k in range(1, 151)]
    assert first == sorted(first)
    order = torch.randperm(20000, generator=generator)
    assert same_groups(group_by_mean_shift(x[order], 100), labels[order])


@pytest.mark.parametrize('kernel', ['cosine', 'norm'])
@pytest.mark.parametrize('concentration', [10, 40])
@pytest.mark.parametrize('seed', range(3))
def test_groups_are_components_of_the_shifted_embeddings(concentration, kernel, seed, device):
    """Against dense loops with the same stop and the whole graph, on blobs that partly merge."""
    from scipy.sparse.csgraph import connected_components

    x = blobs(3, seed=seed, spread=0.5)
    loops = dense_loops(x, concentration, 20, kernel)
    moves = [float((b - a).norm(dim=1).max()) for a, b in pairwise(loops)]
    rest = next((i for i, move in enumerate(moves) if move <= 0.01 / concentration**0.5), 19) + 1
    expected = connected_components((torch.cdist(loops[rest], loops[rest]) <= concentration**-0.5).numpy())[1]
    labels = group_by_mean_shift(x.to(device), concentration, kernel=kernel)
    assert same_groups(labels, torch.from_numpy(expected))


def test_tolerance_and_max_loops_end_the_loops(monkeypatch):
    counted = []

    def counting(*arguments):
        counted.append(arguments)
        return shift(*arguments)

    monkeypatch.setattr(MODULE + 'shift', counting)
    x = blobs(3)
    moves = [float((b - a).norm(dim=1).max()) * 10 for a, b in pairwise(dense_loops(x, 100, 12))]
    reached = next(i for i, move in enumerate(moves, start=1) if move <= 0.1)
    for settings, loops in (
        (dict(max_loops=1, tolerance=0), 1),
        (dict(max_loops=7, tolerance=0), 7),
        (dict(max_loops=12, tolerance=1e9), 1),
        (dict(max_loops=12, tolerance=0.1), min(i for i in (1, 2, 3, 4, 6, 9, 13) if i >= reached)),
    ):
        counted.clear()
        group_by_mean_shift(x, 100, **settings)
        assert len(counted) == loops


@functools.lru_cache(maxsize=64)
def without_shortcuts(x, kernel='cosine'):
    """Groups by twenty dense iterations in float64 and the whole graph of the distances; kept for the same tensor."""
    from scipy.sparse.csgraph import connected_components

    last = dense_loops(x, 100, 20, kernel)[-1]
    return torch.from_numpy(connected_components((torch.cdist(last, last) <= 0.1).numpy())[1])


@pytest.mark.parametrize('kernel', ['cosine', 'norm'])
@pytest.mark.parametrize('dims', [3, 16])
@pytest.mark.parametrize('exact_products', [0, 1 << 28])
def test_shortcuts_for_many_embeddings_change_no_group(monkeypatch, dims, kernel, exact_products):
    monkeypatch.setattr(MODULE + '_EXACT_PRODUCTS', exact_products)
    x, true = clusters(700, dims)
    exact = without_shortcuts(x, kernel)
    shifted = []

    def watching(x_PD, *arguments):
        shifted.append(len(x_PD))
        return _iteration(x_PD, *arguments)

    monkeypatch.setattr(MODULE + '_LARGE', 300)
    monkeypatch.setattr(MODULE + '_FEW', 8)
    monkeypatch.setattr(MODULE + '_iteration', watching)
    fast = group_by_mean_shift(x, 100, kernel=kernel, tolerance=0)
    assert shifted[0] < 400 and shifted[-1] < 50  # most have been merged, before the first iteration and later
    assert adjusted_rand_score(exact.tolist(), fast.tolist()) > 0.999
    assert same_groups(fast[true >= 0], exact[true >= 0])
    first = [int((fast == k).nonzero()[0]) for k in range(1, int(fast.max()) + 1)]
    assert first == sorted(first)
    order = torch.randperm(700, generator=torch.Generator().manual_seed(0))
    shuffled = group_by_mean_shift(x[order], 100, kernel=kernel, tolerance=0)
    assert adjusted_rand_score(shuffled.tolist(), fast[order].tolist()) > 0.999


def stroke(count, generator):
    """Unit vectors along an arc twenty bandwidths long, with noise."""
    angle = torch.rand(count, generator=generator) * 2
    x = F.pad(torch.stack([angle.cos(), angle.sin()], dim=1), (0, 6))
    return F.normalize(x + 0.02 * torch.randn(x.shape, generator=generator), dim=1)


def pair(count, gap, share, generator):
    """Two groups ``gap`` apart, the second with a share of the embeddings."""
    center = F.normalize(torch.tensor([[1.0, 0, 0, 0], [1.0, gap, 0, 0]]), dim=1)
    group = (torch.rand(count, generator=generator) < share).long()
    return F.normalize(center[group] + 0.02 * torch.randn(count, 4, generator=generator), dim=1)


def hard_cases():
    generator = torch.Generator().manual_seed(0)
    corner = F.normalize(torch.eye(8)[torch.randint(2, 8, (800,), generator=generator)], dim=1)
    return {
        **{
            f'two groups {gap} apart, {share} in the second': pair(1500, gap, share, generator)
            for gap in (0.1, 0.2, 0.3, 0.4, 0.6)
            for share in (0.5, 0.03)
        },
        'an arc beside groups': torch.cat([stroke(700, generator), corner]),
        'a large background': large_background(1500)[0],
        'one outlier': torch.cat([torch.eye(3)[:1].expand(999, 3), torch.eye(3)[1:2]]),
        'no cluster': F.normalize(torch.randn(800, 16, generator=generator), dim=1),
        'all equal': torch.ones(1000, 5),
        'two values': F.normalize(torch.tensor([[1.0, 0], [1.0, 1.0]])[torch.arange(1000) % 2], dim=1),
        'zero vectors among others': torch.cat([torch.zeros(5, 3), torch.eye(3).repeat(300, 1)]),
    }


HARD_CASES = hard_cases()


@pytest.mark.parametrize('exact_products', [0, 1 << 28])
@pytest.mark.parametrize('name', HARD_CASES)
def test_hard_cases_equal_twenty_dense_iterations(monkeypatch, name, exact_products):
    """All shortcuts but the batches. At most one in a hundred of an arc's embeddings, at the ends of its parts, may differ."""
    x = HARD_CASES[name]
    monkeypatch.setattr(MODULE + '_EXACT_PRODUCTS', exact_products)
    monkeypatch.setattr(MODULE + '_LARGE', 500)
    labels = group_by_mean_shift(x, 100, tolerance=0)
    if name == 'zero vectors among others':  # their direction is 0 / 0 in the reference
        assert (
            int(labels.max()) == 4
            and labels[:5].unique().numel() == 1
            and same_groups(labels[5:], labels[5:8].repeat(300))
        )
        return
    exact = without_shortcuts(x)
    assert int(labels.max()) == int(exact.max()) + 1
    least = 0.98 if 'arc' in name else 1
    assert adjusted_rand_score(exact.tolist(), labels.tolist()) >= least


@pytest.mark.parametrize('kernel', ['cosine', 'norm'])
@pytest.mark.parametrize('step_size', [1.0, 0.5])
@pytest.mark.parametrize('light', [400, 398])
def test_batches_of_equal_embeddings_equal_all_pairs(monkeypatch, kernel, step_size, light, device):
    """Four copies of each light embedding: each of the four batches gets one, with the mass of all. Two are missing in 398."""
    monkeypatch.setattr(MODULE + '_BATCH', 100)
    monkeypatch.setattr(MODULE + '_HEAVY', 16)
    x = torch.cat([clusters(100, 6)[0].repeat(4, 1)[:light], clusters(16, 6, seed=1)[0]])
    mass = torch.cat([torch.ones(light), torch.arange(16) + 5.0])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    settings = KernelSettings(100, kernel, step_size)
    actual = _iteration(x[order].to(device), mass[order].to(device), settings).cpu()
    expected = dense_loops(x[order], 100, 1, kernel, step_size, mass[order])[1]
    # A copy that is missing changes the mean of the others a little.
    assert (actual - expected).norm(dim=1).max() < (1e-5 * slack(device) if light == 400 else 0.05)
    assert actual.isfinite().all()


def test_batches_begin_beyond_three_of_them(monkeypatch):
    monkeypatch.setattr(MODULE + '_BATCH', 100)
    monkeypatch.setattr(MODULE + '_HEAVY', 16)
    settings = KernelSettings(100, 'norm', 1.0)
    for count, is_exact in ((299, True), (300, True), (301, False)):
        x = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
        off = (_iteration(x, torch.ones(count), settings) - dense_loops(x, 100, 1, 'norm')[1]).norm(dim=1).max()
        assert (off < 1e-5) == is_exact, count


def test_batches_change_no_group(monkeypatch):
    monkeypatch.setattr(MODULE + '_BATCH', 128)
    monkeypatch.setattr(MODULE + '_HEAVY', 32)
    x, true = clusters(1000, 16)
    labels = group_by_mean_shift(x, 100, tolerance=0)
    assert same_groups(labels[true >= 0], without_shortcuts(x)[true >= 0])


def test_autocast_changes_no_group():
    """In half precision the places of clusters would be rounded."""
    x, _ = clusters(5000, 16)
    expected = group_by_mean_shift(x, 400)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(group_by_mean_shift(x, 400), expected)


def test_host_synchronizations_do_not_grow_with_groups_or_iterations():
    """Operations of an image whose result the host reads: on a GPU it waits for each of them."""
    counts = {}
    for groups in (5, 100):
        generator = torch.Generator().manual_seed(0)
        center = separated(groups, 16, least=0.6)
        x = center[torch.randint(groups, (5000,), generator=generator)]
        x = (x + 0.01 * torch.randn(5000, 16, generator=generator)).T.reshape(16, 50, 100)
        for loops in (5, 40):
            grouper = MeanShiftGrouping(max_loops=loops, tolerance=0, class_agnostic=True, min_size=10)
            assert int(grouper(x).max()) == groups
            counts[groups, loops] = host_reads(lambda grouper=grouper, x=x: grouper(x))
    # Two for each merging, after iterations 1, 2, 3, 4 of five, and 6, 9, 13, 19 and 28 of forty; unless nothing moves any more.
    assert all(15 < count < 50 for count in counts.values()), counts
    assert abs(counts[100, 5] - counts[5, 5]) <= 6 and counts[100, 40] - counts[100, 5] <= 5 * 2


@pytest.mark.parametrize('kernel', ['cosine', 'norm'])
def test_memory_grows_with_the_pixels_alone(kernel):
    """Below the number from which on shortcuts are taken, and above it."""
    group_by_mean_shift(clusters(100, 16)[0], 100, kernel=kernel)
    for count in (4000, 32000):
        x, _ = clusters(count, 16)
        peak = peak_memory(lambda x=x: group_by_mean_shift(x, 100, kernel=kernel, max_loops=4))
        # A matrix of pixels by pixels would be 250 and 2000 times the embeddings.
        assert peak < 10 * x.numel() * 4 + 2**22


def test_groups_stay_within_their_class_and_leave_background_and_ignored_pixels():
    embeddings = torch.zeros(2, 2, 4)
    embeddings[0] = 1
    classes = torch.tensor([[1, 1, 3, 3], [0, 255, 3, 1]])
    assert MeanShiftGrouping()(embeddings, classes).tolist() == [[1, 1, 2, 2], [0, 0, 2, 1]]
    together = MeanShiftGrouping(class_agnostic=True)(embeddings, classes)
    assert together.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    with_background = MeanShiftGrouping(class_agnostic=True, background_groups=True)(embeddings, classes)
    assert with_background.tolist() == [[1, 1, 1, 1], [1, 0, 1, 1]]
    # Through the registry, from a config.
    config = dict(type='MeanShiftGrouping', concentration=25, kernel='norm', class_agnostic=True)
    assert MODELS.build(config)(embeddings, classes).tolist() == together.tolist()


@pytest.mark.parametrize(('concentration', 'kernel'), [(20, 'cosine'), (4, 'norm')])
def test_every_pixel_of_a_region_is_assigned(concentration, kernel):
    torch.manual_seed(0)
    embeddings, classes = torch.randn(5, 12, 13), torch.randint(0, 4, (12, 13))
    classes[3] = 255
    for settings in ({}, dict(step_size=0.5), dict(min_size=4), dict(class_agnostic=True)):
        labels = MeanShiftGrouping(concentration, kernel, **settings)(embeddings, classes)
        assert torch.equal(labels > 0, (classes > 0) & (classes != 255))
        assert labels.unique().tolist() == list(range(int(labels.max()) + 1))  # without gaps
        assert 3 < int(labels.max()) < int((labels > 0).sum()) * 0.7
        assert torch.equal(labels, MeanShiftGrouping(concentration, kernel, **settings)(embeddings, classes))


def test_regions_are_grouped_by_themselves():
    """Two classes that would attract each other at this concentration: each as if it were alone in the image."""
    torch.manual_seed(1)
    embeddings, classes = torch.randn(3, 14, 14), torch.randint(1, 3, (14, 14))
    grouper = MeanShiftGrouping(30)
    labels = grouper(embeddings, classes)
    for class_ in (1, 2):
        alone = grouper(embeddings, torch.where(classes == class_, class_, 0))
        assert same_groups(labels[classes == class_], alone[classes == class_])
        assert int(alone.max()) > 2


@pytest.mark.parametrize('class_agnostic', [False, True])
@pytest.mark.parametrize('value', [0, 255])
def test_no_foreground_gives_no_group(class_agnostic, value, device):
    classes = torch.full((3, 3), value, device=device)
    labels = MeanShiftGrouping(class_agnostic=class_agnostic)(torch.randn(4, 3, 3).to(device), classes)
    assert labels.tolist() == [[0] * 3] * 3


@pytest.mark.parametrize('kernel', ['cosine', 'norm'])
def test_a_map_of_one_cell(kernel):
    one = torch.ones(1, 1, dtype=torch.long)
    assert MeanShiftGrouping(kernel=kernel)(torch.randn(4, 1, 1), one).tolist() == [[1]]
    assert MeanShiftGrouping(kernel=kernel)(torch.zeros(4, 1, 1), one).tolist() == [[1]]
    assert MeanShiftGrouping(kernel=kernel)(torch.randn(4, 1, 1), one * 0).tolist() == [[0]]


def test_two_squares_and_a_background_whose_map_errs():
    """The embedding decides the boundaries of the objects; errors of the class map change no group."""
    instances = torch.zeros(12, 16, dtype=torch.long)
    instances[2:8, 2:8], instances[4:10, 9:15] = 1, 2
    torch.manual_seed(0)
    embeddings = torch.eye(4)[instances].movedim(2, 0) + 0.02 * torch.randn(4, 12, 16)
    classes = (instances > 0).long() * 3
    classes[2, 2:6], classes[0, 0:3], classes[9, 9] = 0, 3, 255
    labels = MeanShiftGrouping(class_agnostic=True, background_groups=True)(embeddings, classes)
    assert labels[9, 9] == 0
    inside = classes != 255
    assert same_groups(labels[inside], instances[inside])
    # Without it the errors go into the groups.
    labels = MeanShiftGrouping(class_agnostic=True)(embeddings, classes)
    assert not labels[2, 2:6].any() and labels[0, 0:3].all()


def maps(images=2, dims=3, size=(6, 7), seed=0):
    x = torch.stack([blobs(dims, size[0] * size[1], seed + i, spread=0.4) for i in range(images)])
    return x.transpose(1, 2).reshape(images, dims, *size)


@pytest.mark.parametrize('kernel', ['cosine', 'norm'])
def test_loops_of_whole_images(kernel, device):
    embeddings = maps()
    grouper = MeanShiftGrouping(15, kernel, step_size=0.5)
    loops = take(grouper.loops(embeddings.to(device), torch.ones(2, 6, 7, dtype=torch.long, device=device)), 3)
    for image in range(2):
        x = embeddings[image].flatten(1).T
        for actual, expected in zip(loops, dense_loops(x, 15, 2, kernel, 0.5), strict=True):
            assert actual.shape == embeddings.shape
            assert (actual[image].flatten(1).T.cpu() - expected).abs().max() < 1e-5 * slack(device)


@pytest.mark.parametrize('num_regions', [1, 3])
def test_regions_attract_none_but_themselves_in_training(num_regions, device):
    """Values and gradients equal those of each region by itself, on its pixels alone; pixels at 0 count nowhere."""
    generator = torch.Generator().manual_seed(0)
    embeddings = maps().requires_grad_()
    regions = torch.randint(0, num_regions + 1, (2, 6, 7), generator=generator)
    direction = torch.randn(2, 3, 6, 7, generator=generator) * (regions > 0)[:, None]
    loops = [x.cpu() for x in take(MeanShiftGrouping(15).loops(embeddings.to(device), regions.to(device)), 3)]
    (loops[-1] * direction).sum().backward()
    for image in range(2):
        for region in range(1, num_regions + 1):
            inside = regions[image] == region
            x = embeddings.detach()[image][:, inside].T.double().requires_grad_()
            expected = dense_loops(x, 15, 2)[-1]
            assert (loops[-1][image][:, inside].T - expected).abs().max() < 1e-5 * slack(device)
            (expected * direction[image][:, inside].T).sum().backward()
            assert (embeddings.grad[image][:, inside].T - x.grad).abs().max() < 1e-4 * slack(device)
    assert not embeddings.grad.movedim(1, 3)[regions == 0].any()


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (1, 3, 1, 1)])
@pytest.mark.parametrize('region', [0, 1, 7])
def test_loops_with_nothing_to_attract(shape, region, device):
    embeddings = torch.randn(shape).to(device).requires_grad_()
    regions = torch.zeros(shape[0], *shape[2:], dtype=torch.long, device=device)
    regions[0] = region
    last = take(MeanShiftGrouping().loops(embeddings, regions), 3)[-1]
    last.sum().backward()
    assert last.shape == shape and torch.isfinite(last).all() and torch.isfinite(embeddings.grad).all()
