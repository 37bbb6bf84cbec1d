import math
import warnings

import numpy as np
import pytest
import torch
from references.center_grouping import group_one_by_one, plain_group
from references.host_reads import host_reads

from mmseg_instancenet.models import CenterGrouping, ClassGrouping, DiscriminativeLoss, MeanShiftGrouping
from mmseg_instancenet.models.groupers import group_by_centers, rounds
from mmseg_instancenet.models.losses import SphericalPairLoss
from mmseg_instancenet.structures import EmbeddingMargins


def blobs(seed, spread=0.5, count=150):
    """Blobs that overlap, so that the order of the draws and the shifts matter."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(6, 3)) * 2
    return centers[rng.integers(6, size=count)] + rng.normal(size=(count, 3)) * spread


def draw(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('founders', [1, 3, 1024])
@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('norm', [1, 2, float('inf')])
@pytest.mark.parametrize('seed', range(5))
def test_agrees_with_the_plain_reference_pixel_for_pixel(shift, norm, seed, founders, device, monkeypatch):
    """Center-shift with many founders a round: as one by one where blobs hardly overlap; see the next test."""
    monkeypatch.setattr(rounds, '_MOST_FOUNDERS', founders)
    x = blobs(seed, 0.35 if shift and founders > 1 else 0.5)
    expected = group_one_by_one(x, 1.2, shift, torch.randperm(150, generator=draw(seed)).numpy(), norm)
    x_ND = torch.from_numpy(x).to(device)
    actual = group_by_centers(x_ND, 1.2, shift=shift, norm=norm, generator=draw(seed))
    assert expected.max() > 3
    np.testing.assert_array_equal(actual.cpu().numpy(), expected)


@pytest.mark.parametrize('max_shifts', [1, 2])
@pytest.mark.parametrize('seed', range(3))
def test_a_group_that_has_not_come_to_rest_keeps_its_last_pixels(seed, max_shifts, device, monkeypatch):
    monkeypatch.setattr('mmseg_instancenet.models.groupers.center._MAX_SHIFTS', max_shifts)
    monkeypatch.setattr(rounds, '_MOST_FOUNDERS', 1)
    x, order = blobs(seed), torch.randperm(150, generator=draw(seed)).numpy()
    expected = group_one_by_one(x, 1.2, True, order, 2, max_shifts)
    assert (expected != group_one_by_one(x, 1.2, True, order, 2)).any()
    actual = group_by_centers(torch.from_numpy(x).to(device), 1.2, generator=draw(seed))
    np.testing.assert_array_equal(actual.cpu().numpy(), expected)


@pytest.mark.parametrize('norm', [1, 2, float('inf')])
@pytest.mark.parametrize('seed', range(10))
def test_groups_of_rounds_are_those_of_one_founder_after_the_other(norm, seed, device, monkeypatch):
    """In the order in which rounds accept the founders; where groups overlap that may differ from the order of the draw."""
    accepted = []

    def in_the_order_of_the_rounds(label_N, order_K, founder_N, *_):
        accepted.extend(founder_N[order_K].tolist())
        return label_N, None

    monkeypatch.setattr(rounds, '_number', in_the_order_of_the_rounds)
    x = blobs(seed, 0.7)
    x_ND = torch.from_numpy(x).to(device)
    actual = group_by_centers(x_ND, 1.2, norm=norm, generator=draw(seed)).cpu().numpy()
    labels = np.zeros(len(x), int)
    for drawn in accepted:
        untagged = np.flatnonzero(labels == 0).tolist()
        assert drawn in untagged
        labels[plain_group(x, drawn, untagged, 1.2, True, norm)] = labels.max() + 1
    np.testing.assert_array_equal(actual, labels)
    assert (labels > 0).all() and len(accepted) > 10


@pytest.mark.parametrize('shift', [False, True])
def test_each_region_is_grouped_as_if_it_were_alone(shift, device):
    x_ND = torch.from_numpy(blobs(0)).to(device)
    region_N = torch.arange(150, device=device) % 3 * 7
    labels = group_by_centers(x_ND, 1.2, shift=shift, generator=draw(0), region_N=region_N)
    found = 0
    for region in (0, 7, 14):
        alone = group_by_centers(x_ND[region_N == region], 1.2, shift=shift, generator=draw(0))
        assert torch.equal(labels[region_N == region], alone + found)
        found += int(alone.max())


@pytest.mark.parametrize('grouper', [CenterGrouping(threshold=0.5), CenterGrouping(threshold=0.5, mode='fixed')])
def test_a_class_map_of_bytes_holds_more_groups_than_a_byte_can_count(grouper):
    class_map_hw = torch.full((20, 30), 3, dtype=torch.uint8)
    labels = grouper(torch.arange(600.0).view(1, 20, 30), class_map_hw)
    assert len(labels.unique()) == 600 and labels.min() == 1


def test_shift_and_fixed_differ_where_the_first_pixel_is_an_outlier():
    # Two clusters around 0 and 2 and the outlier 1 between them, drawn first. Around 1 the radius 1.2 holds everything.
    x = torch.tensor([[1.0], [0.0], [0.1], [-0.1], [0.05], [2.0], [2.1], [2.15]])
    generator = next(
        g for g in (torch.Generator().manual_seed(s) for s in range(100)) if int(torch.randperm(8, generator=g)[0]) == 0
    )
    generator.manual_seed(generator.initial_seed())
    assert group_by_centers(x, 1.2, shift=False, generator=generator).unique().tolist() == [1]
    generator.manual_seed(generator.initial_seed())
    shifted = group_by_centers(x, 1.2, shift=True, generator=generator)
    assert shifted[1:5].unique().numel() == 1
    assert shifted[5:].unique().numel() == 1
    assert shifted[1] != shifted[5]


def test_cosine_distance_ignores_length():
    direction = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    x = torch.cat([direction * scale for scale in (0.1, 1.0, 50.0)])
    labels = group_by_centers(x, 0.3, distance='cosine', generator=torch.Generator().manual_seed(0))
    assert labels[0] == labels[2] == labels[4] != labels[1]
    assert labels[1] == labels[3] == labels[5]


def test_same_image_same_groups_whatever_came_before():
    torch.manual_seed(0)
    embeddings, classes = torch.randn(4, 20, 20) * 2, torch.randint(0, 3, (20, 20))
    grouper = CenterGrouping(seed=3)
    first = grouper(embeddings, classes)
    grouper(torch.randn(4, 9, 9), torch.ones(9, 9, dtype=torch.long))
    torch.manual_seed(99)
    assert torch.equal(first, grouper(embeddings, classes))


def test_groups_stay_within_their_class_and_leave_background_and_ignored_pixels(device):
    embeddings = torch.zeros(2, 2, 4, device=device)
    classes = torch.tensor([[1, 1, 3, 3], [0, 255, 3, 1]], device=device)
    labels = CenterGrouping()(embeddings, classes)
    assert labels.tolist() == [[1, 1, 2, 2], [0, 0, 2, 1]]
    together = CenterGrouping(class_agnostic=True)(embeddings, classes)
    assert together.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]


def test_the_background_is_grouped_with_the_others():
    embeddings = torch.zeros(2, 2, 4)
    embeddings[:, 1] = 5
    classes = torch.tensor([[1, 1, 3, 0], [0, 255, 0, 1]])
    grouper = CenterGrouping(class_agnostic=True, background_groups=True)
    assert grouper.regions(classes).tolist() == [[1, 1, 1, 1], [1, 0, 1, 1]]
    labels = grouper(embeddings, classes)
    assert labels.unique().tolist() == [0, 1, 2]
    assert len({*labels[0].tolist()}) == len({*labels[1, [0, 2, 3]].tolist()}) == 1
    assert labels[1, 1] == 0
    # A background alone.
    assert grouper(embeddings, torch.zeros(2, 4, dtype=torch.long)).unique().tolist() == [1, 2]


def test_no_foreground_gives_no_group(device):
    labels = CenterGrouping()(torch.randn(4, 3, 3).to(device), torch.zeros(3, 3, dtype=torch.long, device=device))
    assert labels.tolist() == [[0] * 3] * 3


def test_options_split_and_drop():
    embeddings = torch.zeros(1, 1, 12)
    classes = torch.tensor([[1, 1, 1, 0, 1, 1, 0, 1, 0, 2, 2, 2]])
    embeddings[0, 0, 9:] = 7

    def run(**options):
        return CenterGrouping(**options)(embeddings, classes)[0].tolist()

    assert run() == [1, 1, 1, 0, 1, 1, 0, 1, 0, 2, 2, 2]
    assert run(connected=True) == [1, 1, 1, 0, 2, 2, 0, 3, 0, 4, 4, 4]
    assert run(connected=True, min_size=2) == [1, 1, 1, 0, 2, 2, 0, 0, 0, 3, 3, 3]
    assert run(connected=True, max_instances=2) == [1, 1, 1, 0, 0, 0, 0, 0, 0, 2, 2, 2]


def test_connected_components_baseline():
    classes = torch.tensor([[1, 0, 1], [0, 0, 0], [2, 2, 0]])
    assert ClassGrouping()(torch.randn(3, 3, 3), classes).tolist() == [[1, 0, 1], [0, 0, 0], [2, 2, 0]]
    assert ClassGrouping(connected=True)(torch.randn(3, 3, 3), classes).tolist() == [[1, 0, 2], [0, 0, 0], [3, 3, 0]]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(threshold=-1.0), 'threshold > 0.*-1.0'),
        (dict(threshold=0.0), 'threshold > 0.*0.0'),
        (dict(threshold=float('nan')), 'threshold > 0.*nan'),
        (dict(mode='drift'), "'fixed' or 'shift'.*'drift'"),
        (dict(distance='l2'), "'norm' or 'cosine'.*'l2'"),
        (dict(min_size=0), 'min_size >= 1.*0'),
        (dict(max_instances=0), 'max_instances >= 1.*0'),
        (dict(background_groups=True), 'background_groups=True with class_agnostic=True and connected=False'),
        (dict(background_groups=True, class_agnostic=True, connected=True), 'class_agnostic=True and connected=False'),
    ],
)
def test_invalid_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        CenterGrouping(**settings)


@pytest.mark.parametrize('threshold', [0.0, -1.0, float('nan')])
def test_the_function_checks_its_arguments_itself(threshold):
    with pytest.raises(ValueError, match=f'threshold > 0 in units of the embedding, got {threshold}'):
        group_by_centers(torch.zeros(3, 1), threshold)
    with pytest.raises(ValueError, match=r'expected embeddings \(N, D\), got \(3,\)'):
        group_by_centers(torch.zeros(3), 1.0)


def test_embeddings_that_are_not_finite_or_of_another_shape():
    embeddings = torch.zeros(2, 2, 2)
    embeddings[0, 0, 0] = float('nan')
    with pytest.raises(ValueError, match='finite embeddings.*1 of'):
        CenterGrouping()(embeddings, torch.ones(2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r'expected embeddings \(D, h, w\).*\(2, 2, 2\) and \(3, 2\)'):
        CenterGrouping()(torch.zeros(2, 2, 2), torch.ones(3, 2, dtype=torch.long))


def test_threshold_is_checked_against_the_margins():
    margins = DiscriminativeLoss().margins(4)
    with pytest.warns(
        UserWarning, match=r'threshold 5.61 lies outside \(0.4, 5.6\) = \(2 pull_margin, .*can merge objects'
    ):
        CenterGrouping(threshold=5.61).check_margins(margins)
    with pytest.warns(UserWarning, match=r'threshold 0.39 lies outside \(0.4, 5.6\).*can split objects.*tools/tune.py'):
        CenterGrouping(threshold=0.39).check_margins(margins)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for threshold in (0.41, 1.2, 1.8, 3.0, 5.59):
            CenterGrouping(threshold=threshold).check_margins(margins)
    # No threshold is right for these.
    with pytest.warns(UserWarning, match=r'threshold 1.2 lies outside \(2, 1.2\)'):
        CenterGrouping(threshold=1.2).check_margins(DiscriminativeLoss(pull_margin=1.0, push_margin=1.6).margins(4))


@pytest.mark.parametrize('shift', [False, True])
def test_cosine_thresholds_beyond_a_right_angle(shift):
    """An angle of 110 degrees is a distance of 1.34."""
    angle = math.radians(110)
    x = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    assert group_by_centers(x, 1.35, shift=shift, distance='cosine').tolist() == [1, 1]
    assert sorted(group_by_centers(x, 1.33, shift=shift, distance='cosine').tolist()) == [1, 2]


# Of two instances (1 + cos) / 2 = margin: right angles, 60 degrees, opposite directions.
@pytest.mark.parametrize(('margin', 'high'), [(0.5, 1.0), (0.75, 0.5), (0.0, 2.0)])
def test_cosine_threshold_is_checked_against_the_angle_of_the_margin(margin, high):
    margins = SphericalPairLoss(margin=margin).margins(8)
    with pytest.warns(UserWarning, match=rf'outside \(0, {high:g}\) = .*the angle between two less that.*can merge'):
        CenterGrouping(threshold=high + 0.001, distance='cosine').check_margins(margins)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for threshold in (0.001, high - 0.001):
            CenterGrouping(threshold=threshold, distance='cosine').check_margins(margins)
        # A radius and margins of different kinds cannot be compared.
        CenterGrouping(threshold=9, distance='norm').check_margins(margins)
        CenterGrouping(threshold=9, distance='cosine').check_margins(DiscriminativeLoss().margins(4))


def turned_by(degrees: float) -> float:
    """The cosine distance of an angle."""
    return 1 - math.cos(math.radians(degrees))


def test_cosine_threshold_is_checked_by_angles():
    """10 degrees within, 90 between: 20 to 70 degrees."""
    margins = EmbeddingMargins('cosine', turned_by(10), turned_by(90))
    low, high = turned_by(20), turned_by(70)
    for threshold, word in ((low - 0.001, 'split'), (high + 0.001, 'merge')):
        with pytest.warns(UserWarning, match=rf'outside \({low:g}, {high:g}\).*can {word}'):
            CenterGrouping(threshold=threshold, distance='cosine').check_margins(margins)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for threshold in (low + 0.001, high - 0.001):
            CenterGrouping(threshold=threshold, distance='cosine').check_margins(margins)
    # Twice 50 degrees within leave no room between two that are 90 apart.
    with pytest.warns(UserWarning, match=rf'outside \({turned_by(100):g}, 0\)'):
        CenterGrouping(threshold=0.5, distance='cosine').check_margins(
            EmbeddingMargins('cosine', turned_by(50), turned_by(90))
        )


def objects_in_a_space(rng, norm, within=0.3, between=2.0, dims=3):
    """Objects whose means are at least ``between`` apart and whose pixels lie up to exactly ``within`` from them, in float64.

    Around a centre lie pairs of opposite points, so that it is the mean.
    """
    centers = [rng.uniform(-3, 3, dims)]
    while len(centers) < 7:
        # At exactly ``between`` from one of the others, unless that is too near to another one.
        step = rng.normal(size=dims)
        candidate = centers[rng.integers(len(centers))] + step / np.linalg.norm(step, ord=norm) * between
        if min(np.linalg.norm(candidate - center, ord=norm) for center in centers) >= between - 1e-9:
            centers.append(candidate)
    x, true = [], []
    for index, center in enumerate(centers):
        for _ in range(4):
            step = rng.normal(size=dims)
            step *= within * rng.choice([1.0, rng.random()]) / np.linalg.norm(step, ord=norm)
            x += [center - step, center + step]
            true += [index, index]
    return np.array(x), np.array(true)


def objects_on_the_sphere(rng):
    """Objects whose directions lie up to exactly 10 degrees about means at right angles, and their lengths anywhere.

    Around a centre lie pairs of opposite points, so that it is the direction of the mean of unit vectors.
    """
    centers = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    x, true = [], []
    for index, center in enumerate(centers):
        for _ in range(4):
            step = rng.normal(size=4)
            step -= (step @ center) * center
            step /= np.linalg.norm(step)
            angle = math.radians(10 * rng.choice([1.0, rng.random()]))
            x += [math.cos(angle) * center + sign * math.sin(angle) * step for sign in (-1, 1)]
            true += [index, index]
    return np.array(x) * rng.uniform(0.1, 10, (len(x), 1)), np.array(true)


@pytest.mark.parametrize('share', [0.001, 0.3, 0.7, 0.999])
@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('distance, norm', [('norm', 1), ('norm', 2), ('norm', float('inf')), ('cosine', 2)])
def test_inside_the_range_groups_are_the_objects(distance, norm, shift, share):
    """At a loss of zero, with pixels and means that lie on the margins."""
    if distance == 'norm':
        low, high = 2 * 0.3, 2.0 - 2 * 0.3
    else:
        low, high = turned_by(20), turned_by(70)
    threshold = low + share * (high - low)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, true = objects_in_a_space(rng, norm) if distance == 'norm' else objects_on_the_sphere(rng)
        labels = group_by_centers(
            torch.from_numpy(x),
            threshold,
            shift=shift,
            norm=norm,
            distance=distance,
            generator=torch.Generator().manual_seed(seed),
        ).numpy()
        assert len(set(zip(labels, true, strict=True))) == len(set(labels)) == len(set(true))


@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('distance', ['norm', 'cosine'])
def test_just_outside_the_range_there_are_counterexamples(distance, shift):
    """Two objects of two pixels each on one line, or on one circle: within 10 of means that are 90 apart."""
    position = np.array([-10.0, 10.0, 80.0, 100.0])
    if distance == 'norm':
        x, low, high, step = position[:, None], 20.0, 70.0, 0.1
    else:
        angle = np.radians(position)
        x, low, high, step = np.stack([np.cos(angle), np.sin(angle)], 1), turned_by(20), turned_by(70), 0.001

    def partitions(threshold):
        found = set()
        for seed in range(30):  # whichever pixel is drawn first
            generator = torch.Generator().manual_seed(seed)
            labels = group_by_centers(
                torch.from_numpy(x), threshold, shift=shift, distance=distance, generator=generator
            ).tolist()
            found.add(tuple(labels.index(label) for label in labels))
        return found

    exact = (0, 0, 2, 2)
    assert partitions(low + step) == partitions(high - step) == {exact}
    assert partitions(low - step) == {(0, 1, 2, 3)}  # every pixel for itself
    merged = partitions(high + step) - {exact}
    assert merged and all(min(labels[2:]) < 2 for labels in merged)


def test_threshold_decides_about_a_pixel_on_the_border():
    x = torch.tensor([[0.0], [1.0]])
    assert group_by_centers(x, 1.0, shift=False).unique().numel() == 1
    assert group_by_centers(x, 0.999, shift=False).unique().numel() == 2


@pytest.mark.parametrize('shift', [False, True])
def test_embeddings_without_a_direction_are_one_group_of_their_own(shift):
    """A zero is at right angles to everything, itself included, and would never be in the group around it."""
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    labels = group_by_centers(x, 0.2, shift=shift, distance='cosine')
    assert sorted(torch.bincount(labels).tolist()) == [0, 1, 1, 2]
    assert labels[0] == labels[3]
    with pytest.raises(ValueError, match='finite lengths of embeddings'):  # a direction that would be lost
        group_by_centers(x * 1e30, 0.2, shift=shift, distance='cosine')
    # A threshold of right angles takes all that lies within one.
    assert group_by_centers(x[:2], 1.0, shift=shift, distance='cosine').tolist() == [1, 1]


def test_at_most_so_many_groups_are_found():
    x = torch.arange(50.0)[:, None]
    labels = group_by_centers(x, 0.5, max_groups=7)
    assert torch.bincount(labels).tolist() == [43, *[1] * 7]
    assert len(group_by_centers(x, 0.5).unique()) == 50


def scattered(count, dims=2, seed=0):
    side = int(count**0.5)
    return 10 * torch.randn(dims, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('connected', [False, True])
def test_scattered_embeddings_make_a_bounded_number_of_groups_and_one_warning(connected):
    """Embeddings of a diverged training: without a limit, nearly every pixel would be a group."""
    x_Dhw, ones = scattered(900), torch.ones(30, 30, dtype=torch.long)
    assert int(CenterGrouping(threshold=0.2, connected=connected)(x_Dhw, ones).max()) > 600
    grouper = CenterGrouping(threshold=0.2, connected=connected, max_groups=20)
    with pytest.warns(
        UserWarning, match='at most max_groups=20 groups.*min_size=1.*found 20 or more.*raise max_groups'
    ):
        labels = grouper(x_Dhw, ones)
    assert int(labels.max()) == 20
    # Every pixel is in the group that it founded, in the one whose mean is nearest or, connected, in one that it touches.
    assert (labels > 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        grouper(x_Dhw, ones)  # once
        CenterGrouping(threshold=0.2, max_groups=900)(x_Dhw, ones)
    with pytest.raises(ValueError, match='max_groups >= 1, got 0'):
        CenterGrouping(max_groups=0)


def test_the_largest_groups_stay_where_there_are_too_many():
    """Mean shift finds all: of 6 groups of 1 to 6 pixels the two largest stay, the others join the nearer of them."""
    value = torch.tensor([1.0, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6]) * 10
    grouper = MeanShiftGrouping(kernel='norm', concentration=100, max_groups=2)
    with pytest.warns(UserWarning, match='found 6 or more; the largest stay.*join the nearest'):
        labels = grouper(value[None, None], torch.ones(1, 21, dtype=torch.long))
    assert labels[0].tolist() == [1] * 15 + [2] * 6


def test_small_groups_are_joined_block_by_block(monkeypatch):
    x_Dhw, ones = scattered(400), torch.ones(20, 20, dtype=torch.long)
    grouper = CenterGrouping(threshold=3.0, min_size=5)
    expected = grouper(x_Dhw, ones)
    kept, unjoined = int(expected.max()), CenterGrouping(threshold=3.0)(x_Dhw, ones)
    assert kept > 3 and int(unjoined.max()) > kept
    monkeypatch.setattr('mmseg_instancenet.models.groupers.base._BLOCK', 10)
    assert torch.equal(grouper(x_Dhw, ones), expected)


def test_pixels_of_small_groups_join_by_the_norm_of_the_grouping():
    """At L1 distances 4.0 and 4.4 from two groups; by L2 the second is nearer."""
    first, second, lost = [0.0, 0.0], [6.2, 2.2], [4.0, 0.0]
    distance = [np.abs(np.subtract(lost, mean)) for mean in (first, second)]
    assert [d.sum() for d in distance] == pytest.approx([4.0, 4.4])
    assert np.linalg.norm(distance[0]) > np.linalg.norm(distance[1])
    x_Dhw = torch.tensor([first] * 5 + [second] * 5 + [lost]).T[:, None, :]
    ones = torch.ones(1, 11, dtype=torch.long)
    labels = CenterGrouping(threshold=1.0, norm=1, min_size=2)(x_Dhw, ones)[0]
    assert labels[10] == labels[0] != labels[5]
    labels = CenterGrouping(threshold=1.0, norm=2, min_size=2)(x_Dhw, ones)[0]
    assert labels[10] == labels[5] != labels[0]


@pytest.mark.parametrize(
    'grouper', [CenterGrouping(distance='cosine', threshold=0.05, min_size=2), MeanShiftGrouping(min_size=2)], ids=str
)
def test_pixels_of_small_groups_join_by_their_direction_where_only_directions_count(grouper):
    """Ten times as long and 40 degrees from the first group: by its difference the second one would be nearer."""
    first, second, lost = [1.0, 0.0], [0.0, 9.0], [10 * math.cos(math.radians(40)), 10 * math.sin(math.radians(40))]
    assert np.linalg.norm(np.subtract(lost, second)) < np.linalg.norm(np.subtract(lost, first))
    x_Dhw = torch.tensor([first] * 5 + [second] * 5 + [lost]).T[:, None, :]
    labels = grouper(x_Dhw, torch.ones(1, 11, dtype=torch.long))[0]
    assert labels[10] == labels[0] != labels[5]


def test_too_many_groups_do_not_bring_back_those_below_the_smallest_size():
    """A hundred equal embeddings among eight hundred scattered ones: the only group of at least five pixels."""
    x_Dhw = scattered(900)
    x_Dhw[:, :10, :10] = 0
    grouper = CenterGrouping(threshold=0.2, min_size=5, max_groups=60)
    with pytest.warns(UserWarning, match='at most max_groups=60'):
        labels = grouper(x_Dhw, torch.ones(30, 30, dtype=torch.long))
    assert (labels == 1).all()


@pytest.mark.parametrize('mode', ['shift', 'fixed'])
def test_the_host_waits_no_more_often_for_many_objects_than_for_few(mode):
    """On a GPU each wait costs more than the work that it waits for. Sixteen times as many objects in an image of one size need a
    round or two more."""
    reads = {}
    for side in (4, 16):  # squares with embeddings 6 apart
        row, column = (side * place // 128 for place in torch.meshgrid(*[torch.arange(128)] * 2, indexing='ij'))
        x_2hw = 6 * torch.stack([row, column]) + 0.1 * torch.randn(2, 128, 128, generator=draw(0))
        grouper = CenterGrouping(mode, class_agnostic=True)
        assert int(grouper(x_2hw).max()) == side**2
        reads[side] = host_reads(lambda grouper=grouper, x_2hw=x_2hw: grouper(x_2hw))
    assert reads[4] > 10 and reads[16] < 2 * reads[4], reads


@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('dims', [1, 2, 5])
def test_no_pixel_one_pixel_and_equal_pixels(dims, shift, device):
    for count in (0, 1, 7):
        x_ND = torch.full((count, dims), 3.0, device=device)
        assert group_by_centers(x_ND, 0.5, shift=shift).tolist() == [1] * count


@pytest.mark.parametrize('shift', [False, True])
def test_embeddings_that_spread_over_more_than_all_cells(shift, device):
    """Two thousand pairs of pixels a million thresholds apart, and some far beyond: cells are wider than the threshold there."""
    x_ND = torch.arange(2000.0).repeat_interleave(2)[:, None] * torch.tensor([500.0, -300.0, 1.0])
    x_ND[1::2, 0] += 0.25
    x_ND[-2:, 1] = 1e6
    x_ND = x_ND[torch.randperm(4000, generator=draw(1))].to(device)
    labels = group_by_centers(x_ND, 0.5, shift=shift, generator=draw(0))
    assert torch.bincount(labels).tolist() == [0] + [2] * 2000
    apart_K = torch.stack([x_ND[labels == label].diff(dim=0).norm() for label in range(1, 50)])
    assert (apart_K <= 0.25).all()
