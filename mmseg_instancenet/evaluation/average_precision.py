"""Area under the precision-recall curve of a ranked list."""

import numpy as np


def average_precision(hit_K: np.ndarray, count: int) -> float:
    r"""The area under the interpolated precision-recall curve (VOC since 2010, Hariharan et al. 2014).

    .. math:: AP = \sum_k (r_k - r_{k-1}) \max_{j \ge k} p_j

    with precision p and recall r after the k best scored detections: every step of the curve, no sampling at 11 or 101
    recalls.

    Args:
        hit_K: (K,) bool, in order of falling score: the detection finds an object that none before it has found.
        count: number of objects that there are to be found.

    Returns:
        AP from 0 to 1; NaN where there is no object.

    Example:
        >>> average_precision(np.array([True, False, True]), 2)  # 1/2 * 1 + 1/2 * 2/3
        0.8333333333333333
    """
    if count == 0:
        return float('nan')
    precision_K = np.cumsum(hit_K) / np.arange(1, len(hit_K) + 1)
    highest_K = np.maximum.accumulate(precision_K[::-1])[::-1]
    # Recall grows by 1 / count at each hit and nowhere else.
    return float(highest_K[hit_K].sum() / count)
