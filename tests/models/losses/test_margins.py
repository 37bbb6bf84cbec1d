"""Feasible margins against arrangements of points that meet them."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from mmseg_instancenet.models.losses import asymptotic_margin, feasible_margin, margin_lower_bound


def largest_similarity(points):
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    return float((1 + (unit[first] * unit[second]).sum(1).max()) / 2)


def simplex(count, dims):
    """``count`` corners, centered, in the first count - 1 of ``dims`` directions."""
    corners = np.eye(count) - 1 / count
    basis = np.linalg.svd(corners)[2][: count - 1]
    return np.pad(corners @ basis.T, ((0, 0), (0, dims - count + 1)))


def icosahedron():
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0, a, b * golden) for a, b in itertools.product((1, -1), repeat=2)]
    return np.array([np.roll(corner, turn) for corner in corners for turn in range(3)])


def snub_cube():
    """24 corners: even permutations of (+-1, +-1/t, +-t) with an even number of minus signs, odd ones with an odd number."""
    t = (1 + np.cbrt(19 + 3 * math.sqrt(33)) + np.cbrt(19 - 3 * math.sqrt(33))) / 3
    corners = []
    for order in itertools.permutations(range(3)):
        odd = sum(order[i] > order[j] for i, j in itertools.combinations(range(3), 2)) % 2
        for signs in itertools.product((1, -1), repeat=3):
            if (signs.count(-1) % 2) == odd:
                corners.append(np.array([1, 1 / t, t])[list(order)] * signs)
    return np.array(corners)


def spread_points(count, seed):
    """Points on the sphere whose largest cosine is at a local minimum: first repelled, then solved exactly."""
    first, second = np.triu_indices(count, 1)
    pairs = np.arange(len(first))

    def repulsion(flat):
        x = flat.reshape(count, 3)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return np.log((((x[first] - x[second]) ** 2).sum(1) ** -20.0).sum())

    start = np.random.default_rng(seed).normal(size=3 * count)
    x = minimize(repulsion, start, method='L-BFGS-B', options={'maxiter': 200}).x.reshape(count, 3)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)

    def slack_jacobian(z):
        x, jacobian = z[:-1].reshape(count, 3), np.zeros((len(first), 3 * count + 1))
        jacobian[:, -1] = 1
        for axis in range(3):
            jacobian[pairs, 3 * first + axis] = -x[second, axis]
            jacobian[pairs, 3 * second + axis] = -x[first, axis]
        return jacobian

    def slack(z):
        x = z[:-1].reshape(count, 3)
        return z[-1] - (x[first] * x[second]).sum(1)

    lengths = {'type': 'eq', 'fun': lambda z: (z[:-1].reshape(count, 3) ** 2).sum(1) - 1}
    cosines = {'type': 'ineq', 'fun': slack, 'jac': slack_jacobian}
    result = minimize(
        lambda z: z[-1],
        np.append(x.ravel(), (x[first] * x[second]).sum(1).max()),
        jac=lambda z: np.eye(3 * count + 1)[-1],
        method='SLSQP',
        constraints=[lengths, cosines],
        options={'maxiter': 100, 'ftol': 1e-14},
    )
    return result.x[:-1].reshape(count, 3)


def test_values_of_the_paper_and_by_hand():
    assert feasible_margin(1, 2) == feasible_margin(2, 2) == feasible_margin(2, 64) == 0
    assert feasible_margin(4, 3) == pytest.approx(1 / 3)  # cos of a tetrahedron: -1/3
    assert [feasible_margin(n, 3) for n in (5, 6)] == [0.5, 0.5]
    assert feasible_margin(7, 3) == pytest.approx(0.605, abs=5e-4)
    assert feasible_margin(9, 8) == pytest.approx(7 / 16)
    assert feasible_margin(16, 8) == 0.5


def test_errors():
    for function in (feasible_margin, margin_lower_bound):
        for count, dims in ((0, 3), (-1, 3), (4, 1), (4, 0)):
            with pytest.raises(ValueError, match='at least 1 instance and D >= 2'):
                function(count, dims)
    with pytest.raises(ValueError, match='at least 1 instance, got 0'):
        asymptotic_margin(0)


@pytest.mark.parametrize(
    'count, dims, message',
    [
        (15, 3, r'15 instances in D = 3 \(known there: N = 1 to 14 and 24\).* above 0.782 .* D >= 8'),
        (23, 3, 'above 0.782'),
        (25, 3, 'above 0.862 .* D >= 13'),
        (9, 4, r'N = 1 to 8\).* above 0.500 .* D >= 5'),
        (129, 64, 'D >= 65'),
    ],
)
def test_unknown_margins_are_refused(count, dims, message):
    with pytest.raises(ValueError, match=message):
        feasible_margin(count, dims)
    needed = -(-count // 2)
    assert feasible_margin(count, needed) == 0.5


@pytest.mark.parametrize('dims', [2, 3, 8])
def test_simplex_and_axes_meet_the_margin(dims):
    for count in range(2, dims + 2):
        assert feasible_margin(count, dims) == pytest.approx(largest_similarity(simplex(count, dims)), abs=1e-12)
    axes = np.concatenate([np.eye(dims), -np.eye(dims)])
    for count in range(dims + 2, 2 * dims + 1):
        assert feasible_margin(count, dims) == largest_similarity(axes) == 0.5


@pytest.mark.parametrize('count', [2, 3, 4, 5, 9, 100])
def test_polygon(count):
    angles = 2 * math.pi * np.arange(count) / count
    polygon = np.stack([np.cos(angles), np.sin(angles)], 1)
    assert feasible_margin(count, 2) == pytest.approx(largest_similarity(polygon), abs=1e-12)


@pytest.mark.parametrize('count, points', [(12, icosahedron()), (11, icosahedron()[:11]), (24, snub_cube())])
def test_solids(count, points):
    assert len(points) == count
    assert feasible_margin(count, 3) == pytest.approx(largest_similarity(points), abs=1e-11)


# So many searches hold one that ends in the best arrangement.
@pytest.mark.parametrize('count, seeds', [(7, 2), (8, 2), (9, 2), (10, 2), (13, 4), (14, 2)])
def test_tammes(count, seeds):
    found = [largest_similarity(spread_points(count, seed)) for seed in range(seeds)]
    assert min(found) == pytest.approx(feasible_margin(count, 3), abs=1e-9)


@pytest.mark.parametrize('dims', [2, 3, 4, 16])
def test_more_instances_never_need_less(dims):
    bounds = [margin_lower_bound(count, dims) for count in range(1, 40)]
    assert bounds == sorted(bounds)
    for count, bound in enumerate(bounds, start=1):
        try:
            assert feasible_margin(count, dims) == bound
        except ValueError:
            assert 0.5 <= bound < 1
    assert all(margin_lower_bound(count, dims) >= margin_lower_bound(count, dims + 1) for count in range(1, 40))


def test_the_asymptotic_bound_cannot_be_met():
    assert [asymptotic_margin(n) for n in (4, 5, 6, 7)] == pytest.approx([0.093, 0.274, 0.395, 0.482], abs=6e-4)
    for count in [*range(2, 15), 24]:
        assert asymptotic_margin(count) < feasible_margin(count, 3)
    assert asymptotic_margin(24) / feasible_margin(24, 3) > 0.98
