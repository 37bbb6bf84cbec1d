"""Reads polygons of annotations into one form: a list of rings ``[x1, y1, x2, y2, x3, y3, ..]`` of numbers.

Shapes: K annotations, T rings of all of them, V points of all of them.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

POINTS_OF_A_RING = 3


class Unreadable(Exception):
    """Error for a polygon that cannot be read.

    Args:
        check: key of :data:`CHECKS`.
        value: the part that stands in the report.
    """

    def __init__(self, check: str, value: str) -> None:
        super().__init__(value)
        self.check = check


def is_normal(segmentation: list) -> bool:
    """Whether a list has the form of rings; :func:`are_numbers` checks the entries."""
    for ring in segmentation:
        if type(ring) is not list or len(ring) < 2 * POINTS_OF_A_RING or len(ring) % 2:
            return False
    return bool(segmentation)


def are_numbers(rings: Sequence[list]) -> bool:
    """Whether all entries are numbers within the range of float64."""
    return set(map(type, chain.from_iterable(rings))) <= {int, float}


def read_rings(segmentation: list) -> tuple[list[list[float]], set[str]]:
    """Reads the rings of a segmentation that is not in the normal form, and returns them with the checks that failed.

    Read are one flat ring, points as pairs, numbers as text, and good rings beside some of fewer than three points.

    Raises:
        Unreadable: if the meaning is not clear.

    Example:
        >>> rings, found = read_rings([1, 1, '5', 1, 5, 5])
        >>> rings, sorted(found)
        ([[1, 1, 5.0, 1, 5, 5]], ['coordinates-as-text', 'flat-polygon'])
    """
    found: set[str] = set()
    flat = not any(isinstance(entry, list | dict) for entry in segmentation)
    if flat or (len(segmentation) >= POINTS_OF_A_RING and all(_is_pair(entry) for entry in segmentation)):
        segmentation = [segmentation]
        found.add('flat-polygon')
    rings = []
    for entry in segmentation:
        if not isinstance(entry, list):
            raise Unreadable('segmentation-form', f'{short(entry)} among the polygons')
        if entry and all(_is_pair(point) for point in entry):
            entry = list(chain.from_iterable(entry))
            found.add('polygon-of-pairs')
        ring = [_number(value, found) for value in entry]
        if len(ring) < 2 * POINTS_OF_A_RING:
            found.add('empty-ring')
        elif len(ring) % 2:
            raise Unreadable('odd-polygon', f'{len(ring)} coordinates')
        else:
            rings.append(ring)
    if not rings:
        raise Unreadable('point-polygon', short(segmentation))
    return rings, found


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and not any(isinstance(value, list | dict) for value in entry)


def _number(value: Any, found: set[str]) -> float:
    if type(value) is str:
        try:
            value = float(value)
        except ValueError:
            raise Unreadable('coordinate', short(value)) from None
        found.add('coordinates-as-text')
    if type(value) is int and abs(value) > 2**53:
        raise Unreadable('coordinate', short(value))
    if type(value) not in (int, float):
        raise Unreadable('coordinate' if value is None else 'segmentation-form', f'{short(value)} as a coordinate')
    return value


def short(value: Any) -> str:
    """A value as text, shortened to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}..'


class PolygonMeasures(NamedTuple):
    """Measures of the polygons of K annotations.

    Attributes:
        finite_K: (K,) bool, whether all coordinates are.
        box_K4: (K, 4) float, the extent (x1, y1, x2, y2).
        area_K, perimeter_K: (K,) float, summed over the rings.
        fractions_K: (K,) bool, whether a coordinate is no whole number.
    """

    finite_K: np.ndarray
    box_K4: np.ndarray
    area_K: np.ndarray
    perimeter_K: np.ndarray
    fractions_K: np.ndarray


def measure(segmentations: Sequence[list[list[float]]]) -> PolygonMeasures:
    """Measures polygons in the normal form, all at once.

    Example:
        >>> measure([[[0, 0, 4, 0, 4, 2, 0, 2]]]).area_K
        array([8.])
    """
    rings = list(chain.from_iterable(segmentations))
    if not rings:
        nothing = np.zeros(0)
        return PolygonMeasures(nothing.astype(bool), np.zeros((0, 4)), nothing, nothing, nothing.astype(bool))
    point_V2 = np.array(list(chain.from_iterable(rings)), np.float64).reshape(-1, 2)
    points_T = np.array([len(ring) // 2 for ring in rings])
    first_T = np.cumsum(points_T) - points_T
    rings_K = np.array([len(one) for one in segmentations])
    ring_K = np.cumsum(rings_K) - rings_K
    first_K = first_T[ring_K]
    with np.errstate(all='ignore'):  # finite_K marks values that are not finite
        next_V = np.arange(1, len(point_V2) + 1)
        next_V[first_T + points_T - 1] = first_T
        next_V2 = point_V2[next_V]
        # Relative to the first point of the ring, so that rings far from 0 keep their precision.
        origin_V2 = np.repeat(point_V2[first_T], points_T, axis=0)
        here_V2, there_V2 = point_V2 - origin_V2, next_V2 - origin_V2
        twice_V = here_V2[:, 0] * there_V2[:, 1] - there_V2[:, 0] * here_V2[:, 1]
        area_T = np.abs(np.add.reduceat(twice_V, first_T)) / 2
        length_V = np.hypot(*(next_V2 - point_V2).T)
        return PolygonMeasures(
            np.logical_and.reduceat(np.isfinite(point_V2).all(1), first_K),
            np.hstack([np.minimum.reduceat(point_V2, first_K), np.maximum.reduceat(point_V2, first_K)]),
            np.add.reduceat(area_T, ring_K),
            np.add.reduceat(length_V, first_K),
            np.logical_or.reduceat((point_V2 != np.floor(point_V2)).any(1), first_K),
        )
