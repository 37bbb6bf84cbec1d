"""The one-dimensional toy: against plain loops, and the paper's observations on it in numbers."""

import math

import pytest
import torch

from mmseg_instancenet.analysis.one_dimensional_toy import (
    draw_points,
    ideal_spots,
    shift_points,
    squared_error,
    update_points,
)


@pytest.fixture(scope='module')
def points():
    return draw_points(200, torch.Generator().manual_seed(0))


@pytest.fixture(scope='module')
def updates(points):
    """The points over thirty updates, for each number of loops and whether the loss is there after every one."""
    settings = [(0, False), *((loops, every) for loops in (1, 3) for every in (False, True))]
    return {setting: update_points(points, *setting) for setting in settings}


@pytest.mark.parametrize(
    ('x', 'settings', 'message'),
    [
        (torch.zeros(2, 1), {'loops': 1}, r'expected floating point numbers \(N,\), got \(2, 1\)'),
        (torch.zeros(2, dtype=torch.long), {'loops': 1}, 'int64'),
        (torch.zeros(2), {'loops': -1}, 'expected loops >= 0 and updates >= 0, got -1 and 30'),
        (torch.zeros(2), {'loops': 0, 'updates': -2}, 'got 0 and -2'),
    ],
)
def test_refuses(x, settings, message):
    with pytest.raises(ValueError, match=message):
        update_points(x, every_loop=False, **settings)


def test_points_are_the_papers():
    x = draw_points(4000, torch.Generator().manual_seed(1)).view(3, 4000)
    assert x.mean(1).tolist() == pytest.approx([3, 4, 5], abs=0.02)
    assert x.std(1).tolist() == pytest.approx([0.2, 0.3, 0.1], abs=0.02)
    assert ideal_spots(torch.tensor([3.49, 3.51, 9.0])).tolist() == [3, 5, 5]


def plain_shift(x: list, loops: int) -> list:
    """Gaussian blurring mean shift, exp(-d^2 / (2 x 0.2^2))."""
    after = [x]
    for _ in range(loops):
        x = [
            sum(math.exp(-((a - b) ** 2) / 0.08) * b for b in x) / sum(math.exp(-((a - b) ** 2) / 0.08) for b in x)
            for a in x
        ]
        after.append(x)
    return after


def plain_error(x: list, spots: list, loops: int, every: bool) -> float:
    after = plain_shift(x, loops)
    return sum(
        (0.5 * a - 0.5 * spot) ** 2
        for of_loop in (after if every else after[-1:])
        for a, spot in zip(of_loop, spots, strict=True)
    )


@pytest.mark.parametrize(('loops', 'every'), [(0, False), (0, True), (2, False), (2, True)])
def test_updates_follow_the_gradient_of_a_plain_reference(loops, every):
    x = [2.9, 3.2, 3.45, 3.6, 4.1, 5.1]
    spots = [3, 3, 3, 5, 5, 5]
    assert torch.stack(shift_points(torch.tensor(x), loops)).flatten().tolist() == pytest.approx(
        sum(plain_shift(x, loops), []), abs=1e-5
    )
    error = squared_error(torch.tensor(x), torch.tensor(spots).float(), loops, every)
    assert float(error) == pytest.approx(plain_error(x, spots, loops, every), rel=1e-5)
    updated = update_points(torch.tensor(x, dtype=torch.float64), loops, every, updates=2, step=0.3)
    assert updated[0].tolist() == x
    for _ in range(2):
        slope = []
        for index in range(len(x)):
            above, below = list(x), list(x)
            above[index] += 1e-5
            below[index] -= 1e-5
            slope.append((plain_error(above, spots, loops, every) - plain_error(below, spots, loops, every)) / 2e-5)
        x = [a - 0.3 * b for a, b in zip(x, slope, strict=True)]
    assert updated[2].tolist() == pytest.approx(x, abs=1e-6)


def test_without_training_there_are_three_piles(points):
    """Figure 13 (b)."""
    after = shift_points(points, 5)[-1]
    for mean in (3, 4, 5):
        assert ((after - mean).abs() < 0.06).float().mean() > 0.25
    assert sum(((after - mean).abs() < 0.06).float().mean() for mean in (3, 4, 5)) > 0.98


def test_without_loops_three_clusters_remain(points, updates):
    """Figure 13 (c), (d): each update covers 5 % of the way, so that 0.95^30 = 21 % of it remain."""
    spot = ideal_spots(points)
    last = updates[0, False][-1]
    torch.testing.assert_close(last - spot, (points - spot) * 0.95**30, atol=1e-4, rtol=0)
    third = last.view(3, 200).median(1).values
    assert third[2] - third[1] > 0.15


def test_loops_increase_the_gradient_at_points_far_from_their_position(points, updates):
    """Observations 1, 3 and 4: by loops, by more loops, and most by a loss after every one."""
    far = (points - ideal_spots(points)).abs() > 0.5
    first_step = {setting: float((x[1] - x[0]).abs()[far].mean()) for setting, x in updates.items()}
    assert first_step[0, False] < first_step[1, False] < first_step[3, False]
    for loops in (1, 3):
        assert first_step[loops, True] > 1.5 * first_step[loops, False]
    assert first_step[3, True] > 2 * first_step[1, True]


def spread(x, spot):
    return max(float(x[spot == place].std()) for place in (3, 5))


def test_one_loss_at_the_end_leaves_the_points_loose_but_groups_them_afterwards(points, updates):
    """Observation 2: the loss uses the points only after the loops, which bring them together anyway."""
    spot = ideal_spots(points)
    for loops in (1, 3):
        last = updates[loops, False][-1]
        assert spread(last, spot) > 1.3 * spread(updates[0, False][-1], spot)
        after = shift_points(last, 5)[-1]
        assert spread(after, spot) < 0.03
        assert float((after - spot).abs().mean()) < float(
            (shift_points(updates[0, False][-1], 5)[-1] - spot).abs().mean()
        )


def test_a_loss_after_every_loop_gathers_the_points_on_their_spots(points, updates):
    """Observation 4: tighter and quicker than without loops, and with more loops more so."""
    spot = ideal_spots(points)
    spreads = [spread(updates[setting][-1], spot) for setting in ((0, False), (1, True), (3, True))]
    assert spreads[1] < 0.7 * spreads[0] and spreads[2] < spreads[1]
    assert spread(updates[3, True][10], spot) < spread(updates[0, False][10], spot)
    assert float((shift_points(updates[3, True][-1], 5)[-1] - spot).abs().max()) < 0.02
