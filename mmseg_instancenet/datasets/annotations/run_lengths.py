"""Checks of run-length masks without C code: pycocotools reads outside the allocated memory if run lengths are wrong.

Shapes: R runs of all masks one after the other, K masks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_MAX_CHARACTERS = 7
"""Characters of one number: 35 bits, more than the pixels of any image."""


class RunLengths(NamedTuple):
    """Run lengths of K masks, alternately outside and inside the mask, in column-major order.

    Attributes:
        count_R: (R,) int64, all masks one after the other.
        first_K: (K,) int64, the first run of each mask.
        readable_K: (K,) bool, False where a text is no run lengths; such a mask has one run of length 0.
    """

    count_R: np.ndarray
    first_K: np.ndarray
    readable_K: np.ndarray


def decode_counts(texts: Sequence[str | bytes]) -> RunLengths:
    """Decodes run lengths in COCO's compressed text (``rleFrString`` of the COCO API), for many masks at once.

    A number is a row of characters from '0' on, five bits each, the lowest first, a sixth bit while more follow; from the
    fourth run on it is the difference to the run before the last.

    Args:
        texts: K texts.

    Example:
        >>> from pycocotools import mask
        >>> decode_counts([mask.encode(np.asfortranarray([[0, 1, 1]], np.uint8))['counts']]).count_R
        array([1, 2])
    """
    as_bytes = [text.encode('latin-1', 'replace') if isinstance(text, str) else text for text in texts]
    lengths_K = np.array([len(text) for text in as_bytes], np.int64)
    readable_K = lengths_K > 0
    as_bytes = [text or b'0' for text in as_bytes]
    lengths_K = np.maximum(lengths_K, 1)
    if not as_bytes:
        return RunLengths(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))
    code = np.frombuffer(b''.join(as_bytes), np.uint8).astype(np.int64) - 48
    begin_K = np.cumsum(lengths_K) - lengths_K
    last_K = begin_K + lengths_K - 1
    readable_K &= np.logical_and.reduceat((code >= 0) & (code < 64), begin_K) & (code[last_K] & 32 == 0)
    is_last = code & 32 == 0
    is_last[last_K] = True
    end_R = np.flatnonzero(is_last)
    begin_R = np.append(0, end_R[:-1] + 1)
    mask_R = np.searchsorted(begin_K, begin_R, side='right') - 1
    characters_R = end_R - begin_R + 1
    np.logical_and.at(readable_K, mask_R[characters_R > _MAX_CHARACTERS], False)
    place = np.arange(len(code)) - np.repeat(begin_R, characters_R)
    count_R = np.add.reduceat((code & 31) << (5 * np.minimum(place, _MAX_CHARACTERS - 1)), begin_R)
    negative_R = code[end_R] & 16 != 0
    count_R[negative_R] -= np.int64(1) << (5 * np.minimum(characters_R, _MAX_CHARACTERS))[negative_R]
    first_K = np.searchsorted(mask_R, np.arange(len(as_bytes)))
    count_R = _sum_of_differences(count_R, first_K)
    # An invalid text becomes one run of length 0.
    runs_K = np.diff(first_K, append=len(count_R))
    keep_R = np.repeat(readable_K, runs_K)
    keep_R[first_K] = True
    count_R[first_K[~readable_K]] = 0
    runs_K = np.where(readable_K, runs_K, 1)
    return RunLengths(count_R[keep_R], np.cumsum(runs_K) - runs_K, readable_K)


def _sum_of_differences(count_R: np.ndarray, first_K: np.ndarray) -> np.ndarray:
    """Undoes the differences in COCO's compressed run lengths: adds to each run, from the fourth on, the run two places
    before it."""
    runs_K = np.diff(first_K, append=len(count_R))
    # Each mask begins at an even place, so that runs inside and outside the masks lie at odd and even places.
    even_K = np.cumsum(runs_K + runs_K % 2) - (runs_K + runs_K % 2)
    place_R = np.arange(len(count_R)) - np.repeat(first_K - even_K, runs_K)
    spaced = np.zeros(int((runs_K + runs_K % 2).sum()), np.int64)
    spaced[place_R] = count_R
    outside, inside = np.cumsum(spaced[0::2]), np.cumsum(spaced[1::2])
    # The sums begin anew with each mask; the first run outside belongs to no sum.
    before_inside = np.append(0, inside)[even_K // 2]
    result = spaced.copy()
    pairs_K = (runs_K + 1) // 2
    result[1::2] = inside - np.repeat(before_inside, pairs_K)
    summed = outside - np.repeat(outside[even_K // 2], pairs_K)
    summed[even_K // 2] = spaced[even_K]
    result[0::2] = summed
    return result[place_R]


def join_counts(counts: Sequence[Sequence[int]]) -> RunLengths:
    """The run lengths of masks that store them as numbers."""
    lengths_K = np.array([len(count) for count in counts], np.int64)
    count_R = np.array([run for count in counts for run in count], np.int64)
    return RunLengths(count_R, np.cumsum(lengths_K) - lengths_K, np.ones(len(counts), bool))


class MaskMeasures(NamedTuple):
    """Measures of K masks from their run lengths.

    ``covered_K``: sum of the runs; ``negative_K``: whether a run is negative; ``area_K``: pixels; ``box_K4``: (x1, y1,
    x2, y2) with right and lower edge exclusive, zeros for a mask without a pixel.
    """

    covered_K: np.ndarray
    negative_K: np.ndarray
    area_K: np.ndarray
    box_K4: np.ndarray


def measure(runs: RunLengths, height_K: np.ndarray) -> MaskMeasures:
    """Measures each mask from its run lengths.

    Args:
        runs: of K masks.
        height_K: (K,) of their images.

    Example:
        >>> runs = RunLengths(np.array([1, 2, 3]), np.array([0]), np.array([True]))
        >>> measure(runs, np.array([3])).box_K4
        array([[0, 1, 1, 3]])
    """
    count_R, first_K, _ = runs
    if not len(first_K):
        nothing = np.zeros(0, np.int64)
        return MaskMeasures(nothing, nothing.astype(bool), nothing, np.zeros((0, 4), np.int64))
    lengths_K = np.diff(first_K, append=len(count_R))
    covered_K = np.add.reduceat(count_R, first_K)
    negative_K = np.minimum.reduceat(count_R, first_K) < 0
    stop_R = np.cumsum(count_R) - np.repeat(np.cumsum(covered_K) - covered_K, lengths_K)
    place_R = np.arange(len(count_R)) - np.repeat(first_K, lengths_K)
    inside_R = (place_R % 2 == 1) & (count_R > 0)
    area_K = np.add.reduceat(np.where(inside_R, count_R, 0), first_K)
    height_R = np.repeat(np.maximum(height_K, 1), lengths_K)
    start_R = stop_R - count_R
    left_R, right_R = start_R // height_R, (stop_R - 1) // height_R
    one_column_R = left_R == right_R
    top_R = np.where(one_column_R, start_R % height_R, 0)
    bottom_R = np.where(one_column_R, (stop_R - 1) % height_R, height_R - 1)
    far = np.iinfo(np.int64).max // 2
    box_K4 = np.stack(
        [
            np.minimum.reduceat(np.where(inside_R, left_R, far), first_K),
            np.minimum.reduceat(np.where(inside_R, top_R, far), first_K),
            np.maximum.reduceat(np.where(inside_R, right_R, -1), first_K) + 1,
            np.maximum.reduceat(np.where(inside_R, bottom_R, -1), first_K) + 1,
        ],
        axis=1,
    )
    box_K4[area_K == 0] = 0
    return MaskMeasures(covered_K, negative_K, area_K, box_K4)
