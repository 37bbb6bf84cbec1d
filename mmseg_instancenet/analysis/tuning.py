"""Search for the settings that maximise a metric: a curve of accuracy over the cut of the scores, and a search of one
setting after the other.

Shapes: G objects of the ground truth, K predicted instances of an image, Q pairs of the two that share a pixel, T thresholds
of the IoU.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..evaluation.functional.label_overlap import label_overlap


class ImageMatches(NamedTuple):
    """The predicted instances of an image and how well they match the true objects.

    ``score_K``; ``iou_K`` with the object that each is paired with, 0 where there is none; ``truths``, the number of objects.
    """

    score_K: np.ndarray
    iou_K: np.ndarray
    truths: int


class Metrics(NamedTuple):
    """Counting metrics over all images.

    ``accuracy``; the numbers of ``predicted`` and ``true`` objects; ``count_error``, the mean absolute difference of
    the two numbers of an image.
    """

    accuracy: float
    predicted: int
    true: int
    count_error: float


def match_image(truth_HW: np.ndarray, prediction_HW: np.ndarray, score_K: np.ndarray) -> ImageMatches:
    """Pairs objects and predicted instances whose IoU is at least 0.5, without regard to class.

    Above an IoU of 0.5 an object has one candidate at most, and so has an instance. At exactly 0.5 it can have two; of the
    two halves of an object the one with the higher score is then paired with it, so that the pairs above a cut of the scores
    are always as many as can be formed.

    Args:
        truth_HW: (H, W) integers, -1 = ignored, 0 = background, objects from 1.
        prediction_HW: (H, W) integers, 0 = none, k = the k-th instance.
        score_K: (K,) of the instances.

    Returns:
        matches without the instances all of whose pixels are ignored.

    Example:
        >>> match_image(np.array([[5, 5, 5, 0]]), np.array([[1, 1, 2, 2]]), np.array([0.9, 0.4]))
        ImageMatches(score_K=array([0.9, 0.4]), iou_K=array([0.66666667, 0.        ]), truths=1)
    """
    overlap = label_overlap(truth_HW, prediction_HW)
    seen = np.unique(prediction_HW[(truth_HW >= 0) & (prediction_HW > 0)]) - 1
    score_K = score_K[seen]
    near_Q = np.flatnonzero(overlap.iou_Q >= 0.5)
    near_Q = near_Q[np.argsort(-score_K[overlap.prediction_Q[near_Q]], kind='stable')]
    _, first = np.unique(overlap.truth_Q[near_Q], return_index=True)
    paired_Q = near_Q[first]
    iou_K = np.zeros(len(score_K))
    iou_K[overlap.prediction_Q[paired_Q]] = overlap.iou_Q[paired_Q]
    return ImageMatches(score_K, iou_K, len(overlap.truth_area_G))


def counting_metrics(
    images: Sequence[ImageMatches], score_thr: float = 0.0, iou_thresholds: Sequence[float] = (0.5,)
) -> Metrics:
    """The metrics of the instances whose score is at least a cut.

    accuracy = TP / (TP + FP + FN) with TP the pairs of all images whose IoU is at least t, averaged over the thresholds t: for
    0.5 alone ``accuracy_50`` of :class:`CountingMetric`, for 0.5:0.05:0.95 its ``mean_accuracy``. No new matching is needed: an
    instance that is dropped takes its pair along and leaves the others as they are.

    Args:
        images: at least one.
        score_thr: 0 keeps all, as in ``test_cfg``.
        iou_thresholds: each at least 0.5.

    Example:
        >>> images = [ImageMatches(np.array([0.9, 0.4]), np.array([0.7, 0.0]), truths=1)]
        >>> counting_metrics(images).accuracy, counting_metrics(images, 0.5).accuracy
        (0.5, 1.0)
    """
    kept = [
        iou_K if score_thr == 0 else iou_K[score_K >= score_K.dtype.type(score_thr)] for score_K, iou_K, _ in images
    ]
    iou_M = np.concatenate(kept)
    true, predicted = sum(image.truths for image in images), len(iou_M)
    pairs_T = (iou_M >= np.asarray(iou_thresholds)[:, None]).sum(1)
    accuracy_T = pairs_T / np.maximum(true + predicted - pairs_T, 1)
    errors = [abs(len(iou_K) - image.truths) for iou_K, image in zip(kept, images, strict=True)]
    return Metrics(float(accuracy_T.mean()), predicted, true, float(np.mean(errors)))


def best_value(aims: Mapping[float, float], preferred: float, tolerance: float = 0.0) -> float:
    """The value with the largest aim; of values that equal it within ``tolerance``, the one nearest to ``preferred``,
    then the smaller one.

    A curve is often flat around its maximum, and its highest point is then chance, and may lie beside a cliff: a setting stays
    as near to the config's as it can.

    Example:
        >>> best_value({0.8: 0.61, 1.0: 0.64, 1.2: 0.64, 1.5: 0.64}, preferred=1.3)
        1.2
        >>> best_value({0.8: 0.61, 1.0: 0.63, 1.2: 0.64}, preferred=0.9, tolerance=0.02)
        1.0
    """
    enough = max(aims.values()) - tolerance
    return min((value for value in aims if aims[value] >= enough), key=lambda value: (abs(value - preferred), value))


def search_settings(
    curve: Callable[[str, dict[str, float]], Mapping[float, float]],
    start: Mapping[str, float],
    rounds: int = 2,
    tolerance: float = 0.0,
) -> dict[str, float]:
    """Coordinate search: sets one setting after the other to the best value of its curve, with all others at the best
    values so far.

    It finds a maximum along each axis, which need not be the largest of all combinations. Of equal
    values :func:`best_value` chooses, with ``start`` as the preferred one.

    Args:
        curve: takes the name of a setting and all settings, and returns the aim for each value of that setting; the value
            which it has is among them, or the aim could fall.
        start: settings in the order in which they are searched.
        rounds: over all settings, at most; the search stops after a round that changes nothing.
        tolerance: differences between aims that count as none.

    Example:
        >>> def curve(name, settings):
        ...     return {value: -((settings | {name: value})['a'] - 2) ** 2 for value in (0, 1, 2, 3)}
        >>> search_settings(curve, {'a': 0, 'b': 3})
        {'a': 2, 'b': 3}
    """
    found = dict(start)
    for _ in range(rounds):
        before = dict(found)
        for name in start:
            found[name] = best_value(curve(name, dict(found)), start[name], tolerance)
        if found == before:
            break
    return found
