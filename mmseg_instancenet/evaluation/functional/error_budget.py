"""The points of an average precision that each kind of error costs: an error budget that sums up to 1 - AP.

Shapes: N images, G objects of the ground truth, K detections, S sets of detections, B data sets drawn from the images, T
thresholds of the IoU.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from .budget_corrections import CORRECTIONS, Detections, Fault, TrueObjects, pair_with_objects, rank_by_iou
from .coco_ap import coco_of_masks, match_images, mean_ap
from .label_overlap import match_objects
from .mask_overlap import IOU_THRESHOLDS, mask_overlap
from .void import remove_void

AFTER_RANKING = ('missed', 'boundaries', 'resolution')
"""Corrections that change the IoU after the scores have become the IoU."""

Interval = tuple[float, float]


class Part(NamedTuple):
    """Points of a measure that one kind of error costs, from 0 to 1, each with its 95 % interval.

    Attributes:
        in_turn: what the measure gains when this kind is corrected after those before it.
        alone: what it gains when only this kind is corrected.
    """

    in_turn: float
    in_turn_interval: Interval
    alone: float
    alone_interval: Interval


class Measure(NamedTuple):
    """A measure of the detections, its 95 % interval, and its parts by kind of error, in the order of the corrections."""

    value: float
    interval: Interval
    parts: dict[str, Part]


class ErrorBudget(NamedTuple):
    """``measures`` by name (AP, AP*, AP*50), and by kind of error all ``faults`` as (number of the image, fault), worst first."""

    measures: dict[str, Measure]
    faults: dict[str, list[tuple[int, Fault]]]


def error_budget(images: Sequence[tuple[TrueObjects, Detections]], resamples: int = 200, seed: int = 0) -> ErrorBudget:
    r"""Divides the loss of three measures among the kinds of error of :data:`~.budget_corrections.CORRECTIONS`.

    The detections are corrected in a fixed order. With :math:`m_0` the measure of the detections and :math:`m_i` that after the
    first i corrections, kind i costs :math:`m_i - m_{i-1}`. After the last correction each object is detected once, by its own
    mask, so :math:`m_8 = 1`, and the parts sum up to :math:`1 - m_0` by construction. A part depends on the order. From
    ``ranking`` on the scores are always the IoU of the corrected masks; AP is then the mean recall, and missed objects,
    boundaries and resolution cost the share of objects that they lose. A part can be a little negative: the pieces of a merge may
    be worse than no detection, and for AP* a mask below the threshold is a false positive beside the missed object.

    Beside it stands the gain of each correction alone, as TIDE has it (Bolya et al., TIDE: a general toolbox for identifying
    object detection errors, ECCV 2020): these do not sum up, since an object that is both cut badly and ranked badly needs two
    corrections. From TIDE come the kinds class, localisation (here boundaries), missed and background (here invented), and the
    lowest IoU of 0.1. LRP (Oksuz et al., Localization recall precision: a new performance metric for object detection, ECCV
    2018) divides one threshold's error into three parts that sum up: localisation, false positives and false negatives. Splits,
    merges, resolution and ranking are not among theirs.

    Measures, each from 0 to 1:

    - ``AP``: COCO's, IoU 0.5:0.05:0.95, without its limit of detections (``segm_mAP_all`` of ``CocoInstanceMetric``).
    - ``AP*``: TP / (TP + FP + FN) over all images, mean over the same IoU (``mean_accuracy`` of ``CountingMetric``, where no two
      masks overlap). Classes and scores are not looked at: their parts are 0. Pixels of crowds are left out.
    - ``AP*50``: the same at an IoU of 0.5 (``accuracy_50``).

    The intervals are the 2.5 % and 97.5 % quantiles of a bootstrap over the images: ``resamples`` data sets of N images, drawn
    with replacement, the same for all measures and parts. Data sets without an object are left out. Quantiles of 200 data sets
    are themselves uncertain by some tenths of the interval's width.

    Time: S = 16 sets of detections are matched, each once; then pycocotools sums up S (B + 1) times. Memory: the run-length
    masks of all sets, of which most are shared, and the matches of one set, (T, K) float64.

    Args:
        images: N, from :func:`image_of_budget`.
        resamples: B.
        seed: of the draw.

    Raises:
        ValueError: if no image, or no drawn data set, has an object, or ``resamples`` is below 1.

    Example:
        >>> left, right = (coco_mask.encode(np.asfortranarray([row], np.uint8)) for row in ([1, 1, 0, 0], [0, 0, 1, 1]))
        >>> truth = TrueObjects([left, right], np.array([0, 0]), [left, right], [], np.array([], int))
        >>> budget = error_budget([image_of_budget(truth, [left], np.array([0.9]), np.array([0]))], resamples=2)
        >>> round(budget.measures['AP*'].value, 3), round(budget.measures['AP*'].parts['missed'].in_turn, 3)
        (0.5, 0.5)
    """
    if not any(truth.masks_G for truth, _ in images):
        raise ValueError(
            f'expected images with an object, got {len(images)} images without one: there is nothing to find'
        )
    if resamples < 1:
        raise ValueError(f'expected resamples >= 1, got {resamples}')
    sets_NS, faults = _corrected_sets(images)
    truths = [truth for truth, _ in images]
    rng = np.random.default_rng(seed)
    drawn_BN = rng.integers(len(images), size=(resamples, len(images)))
    objects_N = np.array([len(truth.masks_G) for truth in truths])
    drawn_BN = drawn_BN[objects_N[drawn_BN].any(1)]
    if not len(drawn_BN):
        raise ValueError(
            f'expected drawn data sets with an object, got none of {resamples}: raise resamples, '
            f'{np.count_nonzero(objects_N)} of {len(images)} images have an object'
        )
    values: dict[str, list[np.ndarray]] = {'AP': [], 'AP*': [], 'AP*50': []}
    coco = coco_of_truth(truths)
    for detections_N in zip(*sets_NS, strict=True):
        values['AP'].append(_values_of_ap(coco, detections_N, drawn_BN))
        for name, values_B in _values_of_ratio(truths, detections_N, drawn_BN).items():
            values[name].append(values_B)
    return ErrorBudget({name: _measure(np.array(values_SB)) for name, values_SB in values.items()}, faults)


def image_of_budget(
    truth: TrueObjects, masks_K: list[dict], score_K: np.ndarray, label_K: np.ndarray
) -> tuple[TrueObjects, Detections]:
    """An image of :func:`error_budget`: its objects, and its detections, which are paired with them.

    Args:
        truth: ground truth.
        masks_K: run-length encoded masks, each with a pixel, of the size of the true ones.
        score_K: (K,) finite.
        label_K: (K,) integers, classes from 0.

    Raises:
        ValueError: if the numbers of masks, scores and labels differ, a score is not finite, a mask has no pixel or another size
            than the others, or ``drawable_G`` is not one for each object.

    Example:
        >>> mask = coco_mask.encode(np.asfortranarray([[1, 1]], np.uint8))
        >>> truth = TrueObjects([mask], np.array([0]), [mask], [], np.array([], int))
        >>> image_of_budget(truth, [mask], np.array([0.9]), np.array([0]))[1].object_K
        array([0])
    """
    if not len(masks_K) == len(score_K) == len(label_K):
        raise ValueError(
            f'expected a score and a label for each mask, got {len(masks_K)} masks, {len(score_K)} scores, {len(label_K)} labels'
        )
    if not len(truth.masks_G) == len(truth.label_G) == len(truth.drawable_G):
        raise ValueError(
            f'expected a label and a drawable mask (or None) for each object, got {len(truth.masks_G)} objects, '
            f'{len(truth.label_G)} labels, {len(truth.drawable_G)} drawable masks'
        )
    if not np.isfinite(score_K).all():
        raise ValueError(f'expected finite scores, got {score_K}')
    if not all(coco_mask.area(mask) for mask in (*masks_K, *truth.masks_G)):
        raise ValueError('expected masks with at least one pixel, got an empty one: leave it out')
    object_K = pair_with_objects(masks_K, truth.masks_G)
    return truth, Detections(masks_K, score_K.astype(np.float64), label_K.astype(np.int64), object_K)


def _corrected_sets(
    images: Sequence[tuple[TrueObjects, Detections]],
) -> tuple[list[list[Detections]], dict[str, list[tuple[int, Fault]]]]:
    """For each image the detections, after 1, 2, .. 8 corrections, and after each alone but the first; and all faults."""
    sets_NS = []
    faults: dict[str, list[tuple[int, Fault]]] = {kind: [] for kind in CORRECTIONS}
    for number, (truth, found) in enumerate(images):
        in_turn = [found]
        for kind, correct in CORRECTIONS.items():
            corrected, faults_of_image = correct(truth, in_turn[-1])
            if kind in AFTER_RANKING:
                corrected, _ = rank_by_iou(truth, corrected)
            in_turn.append(corrected)
            faults[kind] += [(number, fault) for fault in faults_of_image]
        alone = [correct(truth, found)[0] for correct in list(CORRECTIONS.values())[1:]]
        sets_NS.append([*in_turn, *alone])
    for entries in faults.values():
        entries.sort(key=lambda entry: -entry[1].severity)
    return sets_NS, faults


def _measure(values_SB: np.ndarray) -> Measure:
    """A measure from its values for each set of detections; those of all images stand first, before the B drawn ones."""
    count = len(CORRECTIONS)
    in_turn_SB = np.diff(values_SB[: count + 1], axis=0)
    alone_SB = np.concatenate([values_SB[1:2], values_SB[count + 1 :]]) - values_SB[0]
    parts = {
        kind: Part(float(in_turn_B[0]), _interval(in_turn_B[1:]), float(alone_B[0]), _interval(alone_B[1:]))
        for kind, in_turn_B, alone_B in zip(CORRECTIONS, in_turn_SB, alone_SB, strict=True)
    }
    return Measure(float(values_SB[0, 0]), _interval(values_SB[0, 1:]), parts)


def _interval(values_B: np.ndarray) -> Interval:
    low, high = np.quantile(values_B, [0.025, 0.975])
    return float(low), float(high)


def _values_of_ap(truth: COCO, detections_N: Sequence[Detections], drawn_BN: np.ndarray) -> np.ndarray:
    """COCO's AP of all images, then of each drawn data set: (1 + B,)."""
    detections = coco_of_detections(detections_N)
    evaluation = match_images(truth, detections, truth.getCatIds(), truth.getImgIds())
    return np.array([mean_ap(evaluation), *(mean_ap(evaluation, drawn_N) for drawn_N in drawn_BN)])


def coco_of_detections(detections_N: Sequence[Detections]) -> COCO:
    """The detections as pycocotools reads them; the ids of the images are 0, 1, .., those of the categories the classes."""
    entries = [
        (number, label, mask, {'score': score})
        for number, found in enumerate(detections_N)
        for mask, score, label in zip(found.masks_K, found.score_K.tolist(), found.label_K.tolist(), strict=True)
    ]
    return coco_of_masks(len(detections_N), entries)


def coco_of_truth(truths: Sequence[TrueObjects]) -> COCO:
    """The objects as pycocotools reads them; the ids of the images are 0, 1, .., those of the categories the classes."""
    entries = [
        (number, label, mask, {'iscrowd': crowd})
        for number, truth in enumerate(truths)
        for masks, labels, crowd in ((truth.masks_G, truth.label_G, 0), (truth.crowds_J, truth.crowd_label_J, 1))
        for mask, label in zip(masks, labels.tolist(), strict=True)
    ]
    return coco_of_masks(len(truths), entries)


def _values_of_ratio(
    truths: Sequence[TrueObjects], detections_N: Sequence[Detections], drawn_BN: np.ndarray
) -> dict[str, np.ndarray]:
    """TP / (TP + FP + FN), mean over the thresholds and at the first, of all images, then of each drawn data set: (1 + B,)."""
    pairs_NT = np.zeros((len(truths), len(IOU_THRESHOLDS)))
    masks_N = np.zeros(len(truths))  # objects and detections
    for number, (truth, found) in enumerate(zip(truths, detections_N, strict=True)):
        masks_K = _without_crowds(found.masks_K, truth)
        overlap = mask_overlap(truth.masks_G, masks_K)
        pairs_NT[number] = [match_objects(overlap, threshold)[0] for threshold in IOU_THRESHOLDS]
        masks_N[number] = len(truth.masks_G) + len(masks_K)
    times_BN = np.stack([np.bincount(drawn_N, minlength=len(truths)) for drawn_N in drawn_BN])
    times_BN = np.concatenate([np.ones((1, len(truths))), times_BN])
    pairs_BT = times_BN @ pairs_NT
    ratio_BT = pairs_BT / ((times_BN @ masks_N)[:, None] - pairs_BT)
    return {'AP*': ratio_BT.mean(1), 'AP*50': ratio_BT[:, 0]}


def _without_crowds(masks_K: list[dict], truth: TrueObjects) -> list[dict]:
    """The masks without the pixels of crowds that belong to no object; those of which nothing is left are left out."""
    if not truth.crowds_J or not masks_K:
        return masks_K
    crowd_HW = coco_mask.decode(coco_mask.merge(truth.crowds_J))
    if truth.masks_G:
        crowd_HW[coco_mask.decode(coco_mask.merge(truth.masks_G)) > 0] = 0
    left = remove_void(masks_K, coco_mask.encode(np.asfortranarray(crowd_HW)))
    return [mask for mask in left if coco_mask.area(mask) > 0]
