"""Overlap and greedy matching of run-length encoded masks, and the average precision of a ranked list."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from .label_overlap import LabelOverlap

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.5, 0.55, .. 0.95: COCO and StarDist average over these. Written out, since 0.55 + 0.05 is not 0.6 in binary."""


def mask_iou(masks_K: Sequence[dict], objects_G: Sequence[dict], crowd: bool = False) -> np.ndarray:
    """IoU of every mask with every object.

    Args:
        masks_K, objects_G: run-length encoded masks (``size``, ``counts``) of one image; either may be empty.
        crowd: the objects are crowds: intersection / area of the mask, COCO's rule, in place of the IoU.

    Returns:
        (K, G) float64.

    Raises:
        ValueError: if the masks are not all of one size.

    Example:
        >>> left, all_of_it = (coco_mask.encode(np.asfortranarray([row], np.uint8)) for row in ([1, 0], [1, 1]))
        >>> mask_iou([left], [all_of_it]), mask_iou([left], [all_of_it], crowd=True)
        (array([[0.5]]), array([[1.]]))
    """
    # pycocotools returns -1 for unequal sizes, and a list without a shape for no masks.
    sizes = {tuple(mask['size']) for masks in (masks_K, objects_G) for mask in masks}
    if len(sizes) > 1:
        raise ValueError(
            f'expected masks of one size, got {sorted(sizes)}: predicted masks have to be of the original size of '
            'their image'
        )
    if not masks_K or not objects_G:
        return np.zeros((len(masks_K), len(objects_G)))
    return coco_mask.iou(list(masks_K), list(objects_G), [int(crowd)] * len(objects_G))


def mask_overlap(objects_G: Sequence[dict], masks_K: Sequence[dict]) -> LabelOverlap:
    """The table of overlaps of two sets of masks, for the measures on label maps; masks of one set may overlap each other.

    Memory: (K, G) float64.

    Args:
        objects_G, masks_K: run-length encoded masks of one image; either may be empty.

    Raises:
        ValueError: if the masks are not all of one size.

    Example:
        >>> left, all_of_it = (coco_mask.encode(np.asfortranarray([row], np.uint8)) for row in ([1, 0], [1, 1]))
        >>> mask_overlap([left], [all_of_it]).pixels_Q
        array([1])
    """
    area_G, area_K = (np.array([coco_mask.area(mask) for mask in masks], np.int64) for masks in (objects_G, masks_K))
    pixels_KG = np.rint(mask_iou(masks_K, objects_G, crowd=True) * area_K[:, None]).astype(np.int64)
    prediction_Q, truth_Q = np.nonzero(pixels_KG)
    return LabelOverlap(area_G, area_K, truth_Q, prediction_Q, pixels_KG[prediction_Q, truth_Q])


def match_greedily(iou_KG: np.ndarray, thresholds_T: Sequence[float] | np.ndarray) -> np.ndarray:
    """Matches detections to objects: each in turn takes the object that it overlaps most among those still free.

    The rule of Hariharan et al. (ECCV 2014; ``overlaps_to_labels`` in their ``generalized_det_eval.m``) and of COCO. VOC's
    rule for boxes is another: there a detection whose best object is taken is a duplicate, even where a second, free
    object overlaps it enough. Above IoU 0.5 the two agree where objects do not overlap each other: a detection has one
    object at most then, and no order of the detections finds more objects.

    Args:
        iou_KG: (K, G) overlaps, the detections in order of falling score.
        thresholds_T: T overlaps in (0, 1]; a match has at least this overlap.

    Returns:
        (T, K) bool.

    Raises:
        ValueError: if a threshold is outside (0, 1].

    Example:
        >>> match_greedily(np.array([[0.9, 0.6], [0.8, 0.3], [0.1, 0.6]]), [0.5])
        array([[ True, False,  True]])
    """
    threshold_T = np.asarray(thresholds_T, float)
    if not ((threshold_T > 0) & (threshold_T <= 1)).all():
        raise ValueError(f'expected IoU thresholds in (0, 1], got {list(thresholds_T)}')
    hit_TK = np.zeros((len(threshold_T), iou_KG.shape[0]), bool)
    free_TG = np.ones((len(threshold_T), iou_KG.shape[1]), bool)
    row_T = np.arange(len(threshold_T))
    for index in np.flatnonzero(iou_KG.max(1, initial=0) >= threshold_T.min()):
        iou_TG = np.where(free_TG, iou_KG[index], -1)
        best_T = iou_TG.argmax(1)
        hit_T = iou_TG[row_T, best_T] >= threshold_T
        hit_TK[:, index] = hit_T
        free_TG[row_T[hit_T], best_T[hit_T]] = False
    return hit_TK


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
    # Recall grows by 1 / count at each hit, and only there.
    return float(highest_K[hit_K].sum() / count)
