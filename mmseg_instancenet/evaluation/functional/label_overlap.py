"""Measures on two label maps of one image, all from one sparse table of their overlaps.

Shapes: G objects of the ground truth, K predicted objects, Q pairs of the two that share a pixel.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching


class LabelOverlap(NamedTuple):
    """Areas of the objects of two label maps and of their overlaps, in pixels.

    ``truth_Q`` and ``prediction_Q`` number the objects from 0 in the order of their labels.
    """

    truth_area_G: np.ndarray
    prediction_area_K: np.ndarray
    truth_Q: np.ndarray
    prediction_Q: np.ndarray
    pixels_Q: np.ndarray

    @property
    def iou_Q(self) -> np.ndarray:
        return self.pixels_Q / (self._areas_Q() - self.pixels_Q)

    @property
    def dice_Q(self) -> np.ndarray:
        return 2 * self.pixels_Q / self._areas_Q()

    def _areas_Q(self) -> np.ndarray:
        return self.truth_area_G[self.truth_Q] + self.prediction_area_K[self.prediction_Q]


def label_overlap(truth_HW: np.ndarray, prediction_HW: np.ndarray) -> LabelOverlap:
    """Computes the table of overlaps of two label maps.

    Ignored pixels are left out of both: an object counts with its other pixels, and not at all if it has none. Memory is a
    few int64 arrays of the image's size, whatever the number of objects.

    Args:
        truth_HW: (H, W) integers, -1 = ignored, 0 = background, objects from 1 (any labels, gaps do not matter).
        prediction_HW: (H, W) integers, 0 = no object, objects from 1.

    Raises:
        ValueError: if the shapes differ, or a label is below the lowest.

    Example:
        >>> label_overlap(np.array([[7, 7, 0, -1]]), np.array([[0, 1, 1, 1]]))[:2]
        (array([2]), array([2]))
    """
    if truth_HW.shape != prediction_HW.shape:
        raise ValueError(f'expected label maps of one shape, got {truth_HW.shape} and {prediction_HW.shape}')
    for name, labels_HW, lowest in (('truth', truth_HW, -1), ('prediction', prediction_HW, 0)):
        if labels_HW.min(initial=0) < lowest:
            raise ValueError(f'expected labels >= {lowest} in the {name}, got {labels_HW.min()}')
    counted_HW = truth_HW >= 0
    truth_P, prediction_P = truth_HW[counted_HW].astype(np.int64), prediction_HW[counted_HW].astype(np.int64)
    span = int(prediction_P.max(initial=0)) + 1
    pair_R, pixels_R = np.unique(truth_P * span + prediction_P, return_counts=True)
    # Number 0 is the background, also where there is none.
    truths, truth_R = np.unique(np.append(pair_R // span, 0), return_inverse=True)
    predictions, prediction_R = np.unique(np.append(pair_R % span, 0), return_inverse=True)
    truth_R, prediction_R = truth_R[:-1], prediction_R[:-1]
    both_R = (truth_R > 0) & (prediction_R > 0)
    return LabelOverlap(
        np.bincount(truth_R, pixels_R, len(truths))[1:].astype(np.int64),
        np.bincount(prediction_R, pixels_R, len(predictions))[1:].astype(np.int64),
        truth_R[both_R] - 1,
        prediction_R[both_R] - 1,
        pixels_R[both_R],
    )


def symmetric_best_dice(overlap: LabelOverlap) -> float:
    r"""Symmetric best Dice, CVPPP's measure of leaf segmentation (Scharr et al., Leaf segmentation in plant
    phenotyping: a collation study, 2016).

    .. math:: BD(A, B) = \frac1{|A|} \sum_{a \in A} \max_{b \in B} \frac{2 |a \cap b|}{|a| + |b|}, \quad
              SBD = \min(BD(A, B), BD(B, A))

    1 where both maps are empty, 0 where one is: our choice, a mean over no object has no value.

    Example:
        >>> symmetric_best_dice(label_overlap(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]])))
        0.6666666666666666
    """
    if not len(overlap.truth_area_G) and not len(overlap.prediction_area_K):
        return 1.0
    best = []
    for index_Q, area in ((overlap.truth_Q, overlap.truth_area_G), (overlap.prediction_Q, overlap.prediction_area_K)):
        dice = np.zeros(len(area))
        np.maximum.at(dice, index_Q, overlap.dice_Q)
        best.append(float(dice.mean()) if len(dice) else 0.0)
    return min(best)


def match_objects(overlap: LabelOverlap, threshold: float) -> tuple[int, float]:
    """Pairs as many objects with IoU >= ``threshold`` as possible, each object in one pair at most.

    The result of StarDist's ``matching``, which uses a dense ``linear_sum_assignment`` (most pairs; among those, the largest
    sum of IoU). From 0.5 on the objects of a label map have one candidate, or several that contain exactly half of them: then
    every largest matching has the same sum, and a sparse one will do.

    Args:
        threshold: 0.5 to 1.

    Returns:
        number of pairs, and the sum of their IoU.

    Raises:
        ValueError: if the threshold is outside 0.5 .. 1.

    Example:
        >>> match_objects(label_overlap(np.array([[1, 1, 1, 2]]), np.array([[1, 1, 0, 2]])), 0.5)
        (2, 1.6666666666666665)
    """
    if not 0.5 <= threshold <= 1:
        raise ValueError(f'expected an IoU threshold from 0.5 to 1, got {threshold}')
    near_Q = overlap.iou_Q >= threshold
    if not near_Q.any():
        return 0, 0.0
    shape = len(overlap.truth_area_G), len(overlap.prediction_area_K)
    pairs_GK = csr_matrix((overlap.iou_Q[near_Q], (overlap.truth_Q[near_Q], overlap.prediction_Q[near_Q])), shape)
    partner_G = maximum_bipartite_matching(pairs_GK, perm_type='column')
    matched_G = np.flatnonzero(partner_G >= 0)
    return len(matched_G), float(pairs_GK[matched_G, partner_G[matched_G]].sum())


def count_splits_and_merges(overlap: LabelOverlap) -> tuple[int, int]:
    """Counts split objects of the ground truth, and predicted objects that merge several (Coelho et al., ISBI 2009).

    Every predicted object belongs to the object of the ground truth, or to the background, that has most of its pixels; an
    object of the ground truth to which two or more belong is split, once, however many they are. A predicted object to
    which two or more objects of the ground truth belong in the same way is a merge. Among equals the background comes
    first, then the lower label.

    Example:
        >>> count_splits_and_merges(label_overlap(np.array([[1, 1, 1, 0, 2, 3]]), np.array([[1, 1, 2, 0, 3, 3]])))
        (1, 1)
    """
    truth_of_K = owners(overlap.prediction_Q, overlap.truth_Q, overlap.pixels_Q, overlap.prediction_area_K)
    prediction_of_G = owners(overlap.truth_Q, overlap.prediction_Q, overlap.pixels_Q, overlap.truth_area_G)
    return len(owners_of_several(truth_of_K)), len(owners_of_several(prediction_of_G))


def owners(part_Q: np.ndarray, owner_Q: np.ndarray, pixels_Q: np.ndarray, part_area: np.ndarray) -> np.ndarray:
    """The mask of another set that has most of the pixels of each mask.

    Args:
        part_Q, owner_Q: numbers, from 0, of the two masks of each pair that shares pixels.
        pixels_Q: pixels that they share.
        part_area: pixels of each mask of the first set.

    Returns:
        (parts,) int64, number of the owner; -1 where the background has as many pixels as the best owner, or more. Among equals
        the lower number comes first.

    Example:
        >>> owners(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([2, 1, 1]), np.array([3, 2]))
        array([ 0, -1])
    """
    background = part_area - np.bincount(part_Q, pixels_Q, len(part_area))
    order_Q = np.lexsort((owner_Q, -pixels_Q, part_Q))
    _, first = np.unique(part_Q[order_Q], return_index=True)
    largest_Q = order_Q[first]
    belongs_Q = pixels_Q[largest_Q] > background[part_Q[largest_Q]]
    owner = np.full(len(part_area), -1)
    owner[part_Q[largest_Q][belongs_Q]] = owner_Q[largest_Q][belongs_Q]
    return owner


def owners_of_several(owner: np.ndarray) -> np.ndarray:
    """The owners to which two parts or more belong, in their order; ``owner`` as :func:`owners` returns it.

    Example:
        >>> owners_of_several(np.array([2, -1, 0, 2, -1]))
        array([2])
    """
    numbers, counts = np.unique(owner[owner >= 0], return_counts=True)
    return numbers[counts >= 2]
