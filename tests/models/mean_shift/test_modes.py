"""Cells of the grid against a loop; merging of modes against connected components of the whole distance graph."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from mmseg_instancenet.models.mean_shift.modes import grid_cells, merge_cells, merge_modes


def by_first_member(labels):
    names = {}
    return [names.setdefault(label, len(names) + 1) for label in np.asarray(labels).tolist()]


def reference(x, radius):
    """(N,) groups from the dense (N, N) distances, float64, numbered by first member."""
    _, labels = connected_components(squareform(pdist(x)) <= radius, directed=False)
    return by_first_member(labels)


def away_from_the_radius(rng, count, dims, radius, spread, branches=0.0):
    """Random points of which no two lie between 7/8 and 9/8 of the radius apart; ``branches`` of them grow from others."""
    points = np.empty((0, dims))
    while len(points) < count:
        candidate = rng.normal(size=dims) * spread
        if len(points) and rng.random() < branches:
            candidate *= rng.uniform(0.3, 0.87) * radius / np.linalg.norm(candidate)
            candidate += points[rng.integers(len(points))]
        distances = np.linalg.norm(points - candidate, axis=1)
        if not ((distances > 0.875 * radius) & (distances < 1.125 * radius)).any():
            points = np.append(points, candidate[None], axis=0)
    return points


def test_by_hand():
    x = torch.tensor([[5.0], [0.0], [5.3], [0.4], [0.8], [9.0]])
    assert merge_modes(x, 0.5).tolist() == [1, 2, 1, 2, 2, 3]
    assert merge_modes(x, 0.35).tolist() == [1, 2, 1, 3, 4, 5]
    assert merge_modes(x, 5).tolist() == [1] * 6


@pytest.mark.parametrize(
    ('x', 'radius', 'message'),
    [
        (torch.zeros(0, 2), 1.0, r'P >= 1, got \(0, 2\)'),
        (torch.zeros(3), 1.0, r'\(P, D\).*got \(3,\)'),
        (torch.zeros(3, 1), 0.0, 'radius > 0.*got 0.0'),
        (torch.zeros(3, 1), float('nan'), 'radius > 0.*got nan'),
        (torch.tensor([[0.0], [float('nan')]]), 1.0, 'finite embeddings.*1 of 2'),
    ],
)
def test_errors(x, radius, message):
    with pytest.raises(ValueError, match=message):
        merge_modes(x, radius)


@pytest.mark.parametrize(('dims', 'spread'), [(1, 80.0), (2, 12.0), (3, 6.0), (16, 2.0), (64, 2.0)])
@pytest.mark.parametrize('seed', range(3))
def test_equals_connected_components(dims, spread, seed, device):
    radius = 1.5
    x = away_from_the_radius(np.random.default_rng(seed), 120, dims, radius, spread, branches=0.7)
    expected = reference(x, radius)
    assert 5 < max(expected) < 115
    x = torch.from_numpy(x).to(device)
    assert merge_modes(x, radius).tolist() == expected
    assert merge_modes(x.float(), radius).tolist() == expected


def test_a_cell_is_small_against_the_radius_in_one_dimension():
    """0.44 and -0.44 lie within the radius; in cells twice as large each would be merged with the points at 0.56."""
    x = torch.tensor([0.44, -0.44] + [0.56, -0.56] * 50)[:, None]
    assert merge_modes(x, 1.0).tolist() == [1] * 102


@pytest.mark.parametrize('seed', range(3))
def test_many_points_to_a_mode(seed):
    """Points after mean shift: nearly equal, many in each cell."""
    rng = np.random.default_rng(seed)
    modes = away_from_the_radius(rng, 60, 4, 1.0, 1.6)
    of_mode = rng.integers(60, size=600)
    x = modes[of_mode] + rng.normal(size=(600, 4)) * 0.005
    expected = by_first_member(np.array(reference(modes, 1.0))[of_mode])
    assert merge_modes(torch.from_numpy(x).float(), 1.0).tolist() == expected


def test_an_order_of_the_points_changes_numbers_alone():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(400, 3)) * 4)
    labels = merge_modes(x, 1.0)
    for _ in range(5):
        order = torch.from_numpy(rng.permutation(400))
        assert merge_modes(x[order], 1.0).tolist() == by_first_member(labels[order])


@pytest.mark.parametrize('order', ['along', 'back', 'random', 'halves'])
def test_a_long_chain_is_one_group(order):
    """1500 points, each within the radius of the next alone, and a second chain beside it that nothing joins."""
    count = 1500
    position = {
        'along': np.arange(count),
        'back': np.arange(count)[::-1].copy(),
        'random': np.random.default_rng(0).permutation(count),
        'halves': np.arange(count).reshape(2, -1).T.reshape(-1).copy(),
    }[order]
    x = torch.zeros(2 * count, 2)
    x[::2, 0] = x[1::2, 0] = torch.from_numpy(position) * 0.9
    x[1::2, 1] = 1.2
    assert merge_modes(x, 1.0).tolist() == [1, 2] * count
    broken = x[(x[:, 0] - 900).abs() > 0.1]
    assert int(merge_modes(broken, 1.0).max()) == 4


@pytest.mark.parametrize(('dtype', 'offset'), [(torch.float32, 1e4), (torch.float64, 1e4), (torch.float64, 1e10)])
def test_far_from_the_origin(dtype, offset):
    """Offsets whose squares would drown the distances; the points are multiples of 1/64, exact there."""
    x = torch.from_numpy(away_from_the_radius(np.random.default_rng(1), 150, 3, 1.0, 2.5) * 64).round() / 64
    expected = merge_modes(x, 1.0)
    assert 5 < int(expected.max()) < 145
    assert torch.equal(merge_modes((x + offset).to(dtype), 1.0), expected)


@pytest.mark.parametrize('seed', range(5))
def test_dense_strokes_and_gaps_near_the_radius(seed):
    """Many points to a cell, at any place in it, and gaps of 7/8 and 9/8 of the radius between strokes of points."""
    rng = np.random.default_rng(seed)
    position, start, group, of_stroke = [], 0.0, 0, []
    for length, joins_next in zip(rng.uniform(0, 3, 30), rng.random(30) < 0.5, strict=True):
        position.append(np.concatenate([[start, start + length], rng.uniform(start, start + length, 80)]))
        of_stroke.append(group)
        start += length + (0.875 if joins_next else 1.125)
        group += not joins_next
    direction = rng.normal(size=4)
    x = np.concatenate(position)[:, None] * direction / np.linalg.norm(direction)
    expected = by_first_member(np.repeat(of_stroke, 82))
    assert 5 < max(expected) < 25
    assert merge_modes(torch.from_numpy(x), 1.0).tolist() == expected
    order = rng.permutation(len(x))
    assert merge_modes(torch.from_numpy(x[order]).float(), 1.0).tolist() == by_first_member(np.array(expected)[order])


@pytest.mark.parametrize(('gap', 'groups'), [(0.875, 1), (1.125, 2)])
@pytest.mark.parametrize('behind', [0.0, 0.03, 0.1, 0.2])
def test_many_points_behind_the_one_that_decides(gap, groups, behind):
    """Two points at 7/8 or 9/8 of the radius, a hundred behind each: the mean of a cell must not replace the two."""
    for place in np.linspace(0, 1, 40):
        left, right = np.append(np.full(100, place - behind), place), np.append(np.full(100, place + behind), place)
        x = torch.from_numpy(np.concatenate([left, right + gap]))[:, None] + 10
        # The mirror image keeps the mean at 0, and with it the grid in its place.
        assert merge_modes(torch.cat([x, -x]), 1.0).unique().numel() == 2 * groups


@pytest.mark.parametrize('radius', [1e-3, 1e-9, 1e-20, 1e-40])
def test_a_tiny_radius_joins_equal_points_alone(radius):
    x = torch.tensor([[1.0, 0.5], [0.0, 0.5], [1.0, 0.5], [0.5, 0.5], [1.0, 0.25], [0.0, 0.5]])
    assert merge_modes(x, radius).tolist() == [1, 2, 1, 3, 4, 2]


def test_a_huge_radius_joins_all():
    assert merge_modes(torch.randn(50, 3), 1e30).tolist() == [1] * 50


@pytest.mark.parametrize('dims', [1, 64])
def test_one_point_and_equal_points(dims):
    assert merge_modes(torch.randn(1, dims), 0.1).tolist() == [1]
    assert merge_modes(torch.ones(7, dims), 0.1).tolist() == [1] * 7


def test_more_cells_than_a_block_of_distances_holds(monkeypatch):
    x = torch.from_numpy(away_from_the_radius(np.random.default_rng(2), 130, 2, 1.0, 6.0))
    expected = merge_modes(x, 1.0)
    monkeypatch.setattr('mmseg_instancenet.models.mean_shift.modes._BLOCK', 300)
    assert torch.equal(merge_modes(x, 1.0), expected)


def test_cells_by_hand():
    """Cells one wide, the middle of one at the origin."""
    x = torch.tensor([[0.4, -0.3], [0.6, 0.0], [-0.4, 0.1], [0.4, 0.4], [-0.6, 0.0]])
    mean, mass, cell_of_each = merge_cells(x, None, 1.0)
    assert mass[cell_of_each].tolist() == [3, 1, 3, 3, 1] and len(mean) == 3
    assert mean[cell_of_each[0]].tolist() == pytest.approx([0.4 / 3, 0.2 / 3])
    mean, mass, cell_of_each = merge_cells(x, torch.tensor([1.0, 5.0, 2.0, 1.0, 7.0]), 1.0)
    assert mass[cell_of_each].tolist() == [4, 5, 4, 4, 7]
    assert mean[cell_of_each[0]].tolist() == pytest.approx([0.0, 0.3 / 4], abs=1e-7)
    assert mean.dtype == mass.dtype == torch.float32


@pytest.mark.parametrize('dims', [1, 3, 16])
@pytest.mark.parametrize('with_mass', [False, True])
def test_cells_equal_a_loop(dims, with_mass, device):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, dims, generator=generator) * torch.rand(300, 1, generator=generator) ** 4
    mass = torch.rand(300, generator=generator) + 0.5 if with_mass else None
    members = {}
    for index, row in enumerate(x.tolist()):
        members.setdefault(tuple(math.floor(2 * value + 0.5) for value in row), []).append(index)
    assert 5 < len(members) < 290
    mean, merged, cell_of_each = (
        y.cpu() for y in merge_cells(x.to(device), mass if mass is None else mass.to(device), 0.5)
    )
    assert len(mean) == len(merged) == len(members)
    weight = torch.ones(300) if mass is None else mass
    for inside in members.values():
        (cell,) = set(cell_of_each[inside].tolist())
        assert float(merged[cell]) == pytest.approx(float(weight[inside].sum()), rel=1e-6)
        expected = (weight[inside, None] * x[inside]).sum(0) / weight[inside].sum()
        assert mean[cell].tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_the_order_of_the_embeddings_does_not_change_the_cells():
    generator = torch.Generator().manual_seed(0)
    x, order = torch.randn(500, 2, generator=generator), torch.randperm(500, generator=generator)
    mean, mass, cell_of_each = merge_cells(x, None, 0.25)
    other_mean, other_mass, other_cell_of_each = merge_cells(x[order], None, 0.25)
    assert torch.equal(other_cell_of_each, cell_of_each[order]) and torch.equal(other_mass, mass)
    assert (other_mean - mean).abs().max() < 1e-6


def test_one_embedding_and_equal_embeddings_in_a_cell():
    mean, mass, cell_of_each = merge_cells(torch.zeros(5, 2), None, 1.0)
    assert mean.tolist() == [[0, 0]] and mass.tolist() == [5] and cell_of_each.tolist() == [0] * 5
    mean, mass, _ = merge_cells(torch.tensor([[3.0, 4.0]]), torch.tensor([2.5]), 1e-30)
    assert mean.tolist() == [[3, 4]] and mass.tolist() == [2.5]


@pytest.mark.parametrize('dims', [1, 3, 16])
def test_the_bound_of_the_attraction_of_a_cell(dims):
    """The kernel's sum over the members of each cell against that of their mean with their mass, in cells of a bandwidth."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(300, dims, generator=generator, dtype=torch.float64) - 0.5) * 1.03
    mean, mass, cell_of_each = merge_cells(x, None, 1.0)
    assert mass.max() > 10
    point = torch.randn(100, dims, generator=generator, dtype=torch.float64) * 2
    cell = int(mass.argmax())
    distance = (point - mean[cell]).norm(dim=1)
    exact = (-torch.cdist(point, x[cell_of_each == cell]).square() / 2).exp().sum(1)
    ratio = exact / (mass[cell] * (-(distance**2) / 2).exp())
    factor = ((2 * distance * dims**0.5 + dims) / 2).exp()
    assert (ratio <= factor).all() and (1 / ratio <= factor).all()


def test_cells_have_different_numbers():
    """Also where the coordinates of cells are large or tiny, or differ by a permutation or a sign."""
    grid = torch.cartesian_prod(*[torch.arange(-8, 9)] * 4).float()
    for scale in (1, 1000, 2.0**20):
        assert len(grid_cells(grid * scale, 1.0).unique()) == len(grid)
        assert len(grid_cells((grid * scale).double(), 1.0).unique()) == len(grid)
    assert torch.equal(grid_cells(grid + 0.3, 1.0), grid_cells(grid - 0.3, 1.0))
    assert torch.equal(grid_cells(torch.tensor([[-0.2]]), 1.0), grid_cells(torch.tensor([[0.2]]), 1.0))
