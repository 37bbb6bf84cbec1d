"""Percentiles of an image that is too large to be held, from its parts."""

from collections.abc import Callable, Iterable

import numpy as np

from .contrast import check_percentiles, check_pixels

_DIGIT_BITS = 16
"""Values are counted by digits of this many bits: 65,536 counts for each digit that is looked at."""


def percentile_limits_of_parts(
    parts: Callable[[], Iterable[np.ndarray]], low: float = 1.0, high: float = 99.8, per_channel: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`~.contrast.percentile_limits` of an image that is given in parts: the same values.

    A percentile is interpolated between two values of the sorted image. Each of them is found by counting: the highest 16 bits
    of all values first, then the next 16 bits of the values that share the highest, and so on (radix selection). Values of 8
    and 16 bits take one walk through the parts, those of 32 bits two, those of 64 bits four.

    Peak memory: a few copies of the largest part, and half a megabyte for each channel, or four times that from the second
    walk on.

    Args:
        parts: gives the parts, (h, w) or (h, w, C) of one type, anew at each call. Every pixel is in one of them.
        low, high, per_channel: see :func:`~.contrast.normalize_percentiles`.

    Returns:
        the lower and the higher percentile, float64: () of all values, (C,) of each channel.

    Raises:
        ValueError: if there are no pixels, or the type, the percentiles or a value do not fit.

    Example:
        >>> image = np.array([[100, 150], [300, 200]], np.uint16)
        >>> [float(limit) for limit in percentile_limits_of_parts(lambda: [image[:1], image[1:]], low=0, high=50)]
        [100.0, 175.0]
    """
    check_percentiles(low, high)
    first = next((part for part in parts() if part.size), None)
    if first is None:
        raise ValueError('expected an image with pixels, got no part that has any')
    channels = first.shape[2] if per_channel and first.ndim == 3 else 1
    limits = np.array([_percentiles(parts, channel, channels, first.dtype, (low, high)) for channel in range(channels)])
    dark, bright = limits.T if per_channel and first.ndim == 3 else limits[0]
    return dark, bright


def _percentiles(
    parts: Callable[[], Iterable[np.ndarray]],
    channel: int,
    channels: int,
    dtype: np.dtype,
    percentiles: tuple[float, float],
) -> list[float]:
    """Percentiles of one of several channels, or of all values (channel 0 of 1)."""
    bits = 8 * dtype.itemsize
    shift = max(bits - _DIGIT_BITS, 0)
    count_B = _count_digits(parts, channel, channels, shift, [0], is_first=True)[0]
    total = int(count_B.sum())
    places = [(total - 1) * (percentile / 100) for percentile in percentiles]
    ranks = [int(rank) for place in places for rank in (np.floor(place), np.ceil(place))]
    # Of each rank the digits that are known, and its place among the values that begin with them.
    known = [_find(count_B, rank) for rank in ranks]
    while shift:
        shift -= _DIGIT_BITS
        prefixes = sorted({prefix for prefix, _ in known})
        counts = dict(zip(prefixes, _count_digits(parts, channel, channels, shift, prefixes), strict=True))
        finer = []
        for prefix, rank in known:
            digit, rank = _find(counts[prefix], rank)
            finer.append(((prefix << _DIGIT_BITS) | digit, rank))
        known = finer
    value_R = _from_sortable(np.array([prefix for prefix, _ in known], f'u{dtype.itemsize}'), dtype).astype(np.float64)
    return [
        float(_interpolate(value_R[2 * k], value_R[2 * k + 1], place - np.floor(place)))
        for k, place in enumerate(places)
    ]


def _find(count_B: np.ndarray, rank: int) -> tuple[int, int]:
    """The digit of the value at a place of the sorted values, and its place among those that have the digit."""
    end_B = np.cumsum(count_B)
    digit = int(np.searchsorted(end_B, rank, side='right'))
    return digit, rank - int(end_B[digit] - count_B[digit])


def _interpolate(lower: np.float64, upper: np.float64, share: float) -> np.float64:
    """As numpy's percentile does it, to the last bit."""
    return upper - (upper - lower) * (1 - share) if share >= 0.5 else lower + (upper - lower) * share


def _count_digits(
    parts: Callable[[], Iterable[np.ndarray]],
    channel: int,
    channels: int,
    shift: int,
    prefixes: list[int],
    is_first: bool = False,
) -> list[np.ndarray]:
    """How many values begin with each prefix and have each digit next, (65536,) int64 for each prefix."""
    counts = [np.zeros(1 << _DIGIT_BITS, np.int64) for _ in prefixes]
    for part in parts():
        if is_first and channel == 0:
            check_pixels(part)
        key_P = _to_sortable((part if channels == 1 else part[..., channel]).reshape(-1)) >> shift
        if is_first:
            counts[0] += np.bincount(key_P.astype(np.int64), minlength=len(counts[0]))
            continue
        prefix_P = key_P >> _DIGIT_BITS
        for count_B, prefix in zip(counts, prefixes, strict=True):
            digit_Q = key_P[prefix_P == prefix] & ((1 << _DIGIT_BITS) - 1)
            count_B += np.bincount(digit_Q.astype(np.int64), minlength=len(count_B))
    return counts


def _to_sortable(value_P: np.ndarray) -> np.ndarray:
    """Unsigned integers of the same width in the order of the values."""
    if value_P.dtype.kind == 'u':
        return value_P
    bits_P = np.ascontiguousarray(value_P).view(f'u{value_P.dtype.itemsize}')
    sign = bits_P.dtype.type(1 << (8 * value_P.dtype.itemsize - 1))
    if value_P.dtype.kind == 'i':
        return bits_P ^ sign
    return np.where(bits_P & sign, ~bits_P, bits_P | sign)  # the bits of negative floating point fall with the value


def _from_sortable(key_P: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values of :func:`_to_sortable`."""
    if dtype.kind == 'u':
        return key_P
    sign = key_P.dtype.type(1 << (8 * dtype.itemsize - 1))
    bits_P = key_P ^ sign if dtype.kind == 'i' else np.where(key_P & sign, key_P ^ sign, ~key_P)
    return bits_P.view(dtype)
