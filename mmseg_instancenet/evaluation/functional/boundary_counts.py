"""Precision and recall of boundaries as the Berkeley benchmark counts them (BSDS500 ``boundaryBench``).

Counts of one image are (T, 4) int64, one row a threshold, in the order of the benchmark's own files:
matched pixels of the truth, pixels of the truth (both summed over the annotators), matched predicted pixels (with any annotator),
predicted pixels.
"""

from concurrent.futures import Executor
from functools import partial

import numpy as np

from .boundary_matching import match_boundaries, thin_boundaries


def boundary_thresholds(count: int = 99) -> np.ndarray:
    """The benchmark's thresholds: ``count`` values, evenly spaced inside (0, 1).

    Example:
        >>> boundary_thresholds(4)
        array([0.2, 0.4, 0.6, 0.8])
    """
    if count < 1:
        raise ValueError(f'expected at least one threshold, got {count}')
    return np.linspace(1 / (count + 1), 1 - 1 / (count + 1), count)


def count_matches(
    probability_HW: np.ndarray,
    truth_AHW: np.ndarray,
    thresholds_T: np.ndarray,
    max_distance: float = 0.0075,
    thin: bool = True,
    executor: Executor | None = None,
) -> np.ndarray:
    """Counts matched and all boundary pixels of one image at each threshold, (T, 4) int64; columns at the top of this
    file.

    At each threshold the pixels whose probability reaches it are thinned to lines and matched one to one with each annotator's
    pixels (:func:`match_boundaries`). A predicted pixel is right if any annotator's pixel is its partner; recall counts
    every annotator's pixels.

    Args:
        probability_HW: (H, W) in [0, 1].
        truth_AHW: (A, H, W) bool, A >= 1.
        thresholds_T: (T,), ascending.
        max_distance: of a match, as a share of the image's diagonal.
        thin: False for maps that are thin already.
        executor: whose workers share the thresholds; without one this process counts.

    Time: up to 99 thresholds x A matchings of 5 to 60 ms each for an image of BSDS500, the less the fewer thresholds
    change anything. Memory: T x H x W bytes.
    """
    if probability_HW.ndim != 2 or truth_AHW.ndim != 3 or truth_AHW.shape[1:] != probability_HW.shape:
        raise ValueError(
            f'expected a probability map (H, W) and boundaries (A, H, W) of one size, got {probability_HW.shape} and '
            f'{truth_AHW.shape}'
        )
    if not len(truth_AHW):
        raise ValueError('expected the boundaries of at least one annotator, got none')
    if not (probability_HW.min() >= 0 and probability_HW.max() <= 1):  # also refuses NaN
        raise ValueError(
            f'expected probabilities in [0, 1], got {probability_HW.min()} to {probability_HW.max()}; apply a sigmoid or softmax'
        )
    # Each map is a subset of the one before, and equal to it if it has as many pixels.
    maps_THW = probability_HW.astype(np.float64) >= thresholds_T[:, None, None]
    _, first_U, which_T = np.unique(maps_THW.sum((1, 2)), return_index=True, return_inverse=True)
    count = partial(
        _count_one, truth_AHW=truth_AHW, max_distance=max_distance * np.hypot(*probability_HW.shape), thin=thin
    )
    counts_U4 = list((executor.map if executor else map)(count, maps_THW[first_U]))
    return np.array(counts_U4, np.int64)[which_T]


def _count_one(
    boundary_HW: np.ndarray, truth_AHW: np.ndarray, max_distance: float, thin: bool
) -> tuple[int, int, int, int]:
    if thin:
        boundary_HW = thin_boundaries(boundary_HW)
    right_HW = np.zeros_like(boundary_HW)
    found = 0
    for truth_HW in truth_AHW:
        predicted_HW, matched_HW = match_boundaries(boundary_HW, truth_HW, max_distance)
        right_HW |= predicted_HW
        found += int(matched_HW.sum())
    return found, int(truth_AHW.sum()), int(right_HW.sum()), int(boundary_HW.sum())


def boundary_metrics(counts_ST4: np.ndarray, thresholds_T: np.ndarray) -> dict[str, float]:
    """ODS, OIS and AP of S images, computed as in the benchmark's ``collect_eval_bdry``.

    With the counts summed over the images, precision P = matched / all predicted pixels, recall R = matched / all pixels of
    the truth, F = 2 P R / (P + R); a ratio of nothing to nothing is 0.

    - ``ODS``: the best F at one threshold for all images, between the thresholds too: P and R are interpolated linearly in
      100 steps. ``ODS_threshold``, ``ODS_precision`` and ``ODS_recall`` belong to it.
    - ``OIS``: F of the counts summed at each image's own best threshold (without interpolation; the lowest of equals).
    - ``AP``: the sum over R = 0, 0.01, .., 1 of 0.01 P(R), P interpolated linearly over the recalls that occur and 0 outside
      them: a curve that starts at R > 0 loses that part, as in the benchmark.

    Args:
        counts_ST4: (S, T, 4), S may be 0; see the top of this file.
        thresholds_T: (T,), ascending.

    Example:
        >>> boundary_metrics(np.array([[[8, 10, 6, 8], [4, 10, 4, 4]]]), np.array([0.3, 0.6]))['OIS']
        0.7741935483870969
    """
    total_T4 = counts_ST4.sum(0)
    recall_T, precision_T = _recall_precision(total_T4)
    step = np.linspace(0, 1, 100)
    # A single threshold leaves nothing to interpolate.
    fine = [
        np.concatenate([values[:1], (values[:-1, None] * (1 - step) + values[1:, None] * step).ravel()])
        for values in (thresholds_T, recall_T, precision_T)
    ]
    best = int(_f_measure(fine[1], fine[2]).argmax())
    threshold, recall, precision = (float(values[best]) for values in fine)

    best_S = _f_measure(*_recall_precision(counts_ST4)).argmax(-1)
    own_recall, own_precision = _recall_precision(counts_ST4[np.arange(len(best_S)), best_S].sum(0))

    recall_U, index_U = np.unique(recall_T, return_index=True)
    area = 0.0
    if len(recall_U) > 1:
        area = 0.01 * np.interp(np.arange(101) / 100, recall_U, precision_T[index_U], left=0, right=0).sum()
    return {
        'ODS': float(_f_measure(recall, precision)),
        'OIS': float(_f_measure(own_recall, own_precision)),
        'AP': float(area),
        'ODS_threshold': threshold,
        'ODS_precision': precision,
        'ODS_recall': recall,
    }


def _recall_precision(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    matched_truth, truth, matched_predicted, predicted = np.moveaxis(counts, -1, 0)
    return matched_truth / np.maximum(truth, 1), matched_predicted / np.maximum(predicted, 1)


def _f_measure(recall: np.ndarray | float, precision: np.ndarray | float) -> np.ndarray:
    total = np.add(recall, precision)
    return 2 * np.multiply(recall, precision) / np.where(total == 0, 1, total)
