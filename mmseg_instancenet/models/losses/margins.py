"""Feasible margins of unit vectors: how dissimilar N instances can be at once in D dimensions.

All margins are calibrated cosine similarities s = (1 + cos) / 2, from 0 (opposite) to 1 (equal).
"""

import math

# Smallest possible largest cosine of N points on the sphere in R^3 (Tammes' problem), for the N for which an optimum is
# proven: 7 to 9 Schuette and van der Waerden (1951), 10 and 11 Danzer (1963), 12 Fejes Toth (1943), 13 and 14 Musin and
# Tarasov (2012, 2015), 24 Robinson (1961; the snub cube). The decimals are those of a numerical optimisation.
_TAMMES_COSINE = {
    7: 0.210138312731,
    8: (2 * math.sqrt(2) - 1) / 7,
    9: 1 / 3,
    10: 0.404394325216,
    11: 1 / math.sqrt(5),
    12: 1 / math.sqrt(5),
    13: 0.542636486830,
    14: 0.563950300361,
    24: 0.723078468334,
}


def feasible_margin(num_instances: int, dims: int) -> float:
    r"""The smallest margin that N instances in R^D can meet at once, if it is known exactly.

    A margin can be met if N unit vectors exist of which no two are more similar than it. The smallest such margin is

    - :math:`(N - 2) / (2 (N - 1))` for N <= D + 1: the corners of a simplex;
    - :math:`1/2` for D + 1 < N <= 2 D: pairs of opposite vectors along the axes (Rankin 1955);
    - :math:`(1 + \cos(2 \pi / N)) / 2` for D = 2: a regular polygon;
    - the solutions of Tammes' problem for D = 3 and N = 7 to 14 and 24.

    Args:
        num_instances: N, the background counted where it is an instance.
        dims: D, at least 2.

    Returns:
        The margin as similarity s; 0 for fewer than two instances.

    Raises:
        ValueError: if no exact value is known for N and D, or they are out of range.

    Example:
        >>> feasible_margin(2, 3), feasible_margin(5, 4), feasible_margin(8, 4)
        (0.0, 0.375, 0.5)
        >>> round(feasible_margin(7, 3), 3)
        0.605
    """
    margin = _exact_margin(num_instances, dims)
    if margin is None:
        needed = math.ceil(num_instances / 2)
        known = 'N = 1 to 14 and 24' if dims == 3 else f'N = 1 to {2 * dims}'
        raise ValueError(
            f'no exact margin is known for {num_instances} instances in D = {dims} (known there: {known}); give a margin '
            f'above {margin_lower_bound(num_instances, dims):.3f} yourself, or use D >= {needed} embedding values, with '
            'which 0.5 can be met'
        )
    return margin


def margin_lower_bound(num_instances: int, dims: int) -> float:
    """A lower bound of the margins that N instances in R^D can meet: with a smaller margin the loss stays above zero.

    It is :func:`feasible_margin` where that is known, else that of the largest smaller N for which it is known: fewer
    instances never need a larger margin.

    Args:
        num_instances: N, the background counted where it is an instance.
        dims: D, at least 2.

    Raises:
        ValueError: if N or D are out of range.

    Example:
        >>> margin_lower_bound(100, 16), margin_lower_bound(20, 3) == feasible_margin(14, 3)
        (0.5, True)
    """
    margin = _exact_margin(num_instances, dims)
    if margin is None:
        known = max(n for n in _TAMMES_COSINE if n < num_instances) if dims == 3 else 2 * dims
        return feasible_margin(known, dims)
    return margin


def asymptotic_margin(num_instances: int) -> float:
    r"""The bound of Kong & Fowlkes' Proposition 2, :math:`1 - 2 \pi / (\sqrt3 N)`, for D = 3 and many instances.

    Below it a loss surely remains, but it is *not* a margin that can be met: four instances need 1/3, and it is 0.093.
    Use :func:`feasible_margin` to choose a margin. Negative for N < 4, where it is no bound.

    Args:
        num_instances: N, at least 1.

    Example:
        >>> [round(asymptotic_margin(n), 3) for n in (4, 5, 6, 7)]
        [0.093, 0.274, 0.395, 0.482]
    """
    if num_instances < 1:
        raise ValueError(f'expected at least 1 instance, got {num_instances}')
    return 1 - 2 * math.pi / (math.sqrt(3) * num_instances)


def _exact_margin(num_instances: int, dims: int) -> float | None:
    if num_instances < 1 or dims < 2:
        raise ValueError(f'expected at least 1 instance and D >= 2, got {num_instances} instances and D = {dims}')
    if num_instances == 1:
        return 0.0
    if num_instances <= dims + 1:
        return (num_instances - 2) / (2 * (num_instances - 1))
    if num_instances <= 2 * dims:
        return 0.5
    if dims == 2:
        return (1 + math.cos(2 * math.pi / num_instances)) / 2
    if dims == 3 and num_instances in _TAMMES_COSINE:
        return (1 + _TAMMES_COSINE[num_instances]) / 2
    return None
