"""The numbers of a report, from the masks of all images.

Shapes: N images, K detections, G objects, U cuts of the scores, C classes.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from ..evaluation.functional.budget_corrections import (
    CORRECTIONS,
    Detections,
    Fault,
    TrueObjects,
    pair_with_objects,
    rank_by_iou,
)
from ..evaluation.functional.coco_ap import ap_table
from ..evaluation.functional.error_budget import coco_of_detections, coco_of_truth
from ..evaluation.functional.mask_overlap import mask_iou, match_greedily
from ..evaluation.metrics.mask_metric import ImageMasks

HIT_IOU = 0.5
"""A detection with at least this IoU with an object of its class is right."""

FAULTS = ('merges', 'splits', 'classes', 'invented', 'missed')
"""Kinds of error that are counted, in the order of their correction."""

LIMIT = 100
"""COCO's limit of detections of an image and class."""

BINS = 10
"""Of the scores from 0 to 1."""


class ImageMatches(NamedTuple):
    """The K detections and G objects of an image; detections that a crowd excuses are left out.

    score_K: float64.
    label_K, label_G: int64, classes from 0.
    hit_K: bool, the detection is right; each object has one right detection at most.
    iou_K: float64, IoU with the object that the detection is paired with; 0 without one and for a wrong class.
    """

    score_K: np.ndarray
    label_K: np.ndarray
    hit_K: np.ndarray
    iou_K: np.ndarray
    label_G: np.ndarray

    @property
    def hits(self) -> int:
        return int(self.hit_K.sum())

    @property
    def errors(self) -> int:
        """Wrong detections and objects that are not found."""
        return len(self.hit_K) + len(self.label_G) - 2 * self.hits

    @property
    def accuracy(self) -> float:
        """TP / (TP + FP + FN); NaN without objects and detections."""
        return _ratio(self.hits, self.hits + self.errors)


class ScoreCurve:
    """Measures of the detections whose score is at least a cut, for all cuts that differ in their detections.

    Attributes:
        cut_U: (U,) float64, the scores that occur, in falling order.
        kept_U: (U,) int64, detections with at least this score.
        hits_U: (U,) int64, right ones among them.
        objects: number of objects.
        precision_U, recall_U, f1_U, accuracy_U: TP / (TP + FP), TP / (TP + FN), 2 TP / (2 TP + FP + FN), TP / (TP + FP + FN).
            Recall is NaN where there is no object.

    Args:
        score_K: (K,) finite.
        hit_K: (K,) bool.
        objects: number of objects.

    Example:
        >>> curve = ScoreCurve(np.array([0.9, 0.5, 0.5]), np.array([True, False, True]), objects=4)
        >>> curve.cut_U.tolist(), curve.precision_U.round(2).tolist(), curve.recall_U.tolist(), curve.accuracy_U.tolist()
        ([0.9, 0.5], [1.0, 0.67], [0.25, 0.5], [0.25, 0.4])
    """

    def __init__(self, score_K: np.ndarray, hit_K: np.ndarray, objects: int) -> None:
        cut_U, index_K = np.unique(-np.asarray(score_K, float), return_inverse=True)
        self.cut_U, self.objects = -cut_U, objects
        self.kept_U = np.bincount(index_K, minlength=len(cut_U)).cumsum()
        self.hits_U = np.bincount(index_K[np.asarray(hit_K, bool)], minlength=len(cut_U)).cumsum()

    @cached_property
    def precision_U(self) -> np.ndarray:
        return self.hits_U / self.kept_U

    @cached_property
    def recall_U(self) -> np.ndarray:
        return self.hits_U / self.objects if self.objects else np.full(len(self.cut_U), np.nan)

    @cached_property
    def f1_U(self) -> np.ndarray:
        return 2 * self.hits_U / (self.kept_U + self.objects)

    @cached_property
    def accuracy_U(self) -> np.ndarray:
        return self.hits_U / (self.kept_U + self.objects - self.hits_U)

    @property
    def best(self) -> int:
        """Place of the cut with the highest accuracy, the highest such cut among equals."""
        return int(self.accuracy_U.argmax())

    def at(self, cut: float) -> int | None:
        """Place of the values of the detections whose score is at least ``cut``; ``None`` if there is no such detection."""
        places = np.flatnonzero(self.cut_U >= cut)
        return int(places[-1]) if len(places) else None


class ScoreBin(NamedTuple):
    """The detections with a score from ``low`` to ``high``: how many, means of score and IoU, share that is right."""

    low: float
    high: float
    detections: int
    score: float
    iou: float
    right: float


class ClassRow(NamedTuple):
    """Numbers of a class; AP without a limit of detections, NaN where there is no such object.

    ap: over IoU 0.5:0.05:0.95, at 0.5, at 0.75, then over IoU for small, medium and large objects.
    count_error: predicted minus true count of an image, absolute value, mean over the images.
    """

    name: str
    objects: int
    detections: int
    ap: tuple[float, ...]
    count_error: float


class Measures(NamedTuple):
    """All numbers of a report.

    matches: of each image.
    ap_limited, ap_all: as :attr:`ClassRow.ap`, means over the classes that have objects, with COCO's limit of 100 and without.
    faults: by kind, as (number of the image, fault), worst first.
    calibration_error: absolute difference of the means of score and IoU, mean over the bins, weighted by their detections.
    """

    matches: list[ImageMatches]
    ap_limited: tuple[float, ...]
    ap_all: tuple[float, ...]
    classes: list[ClassRow]
    curve: ScoreCurve
    bins: list[ScoreBin]
    calibration_error: float
    faults: dict[str, list[tuple[int, Fault]]]

    @property
    def true_N(self) -> np.ndarray:
        """Objects of each image."""
        return np.array([len(image.label_G) for image in self.matches], int)

    @property
    def predicted_N(self) -> np.ndarray:
        """Detections of each image."""
        return np.array([len(image.label_K) for image in self.matches], int)

    @property
    def difference_N(self) -> np.ndarray:
        """Predicted minus true count of each image."""
        return self.predicted_N - self.true_N


def measure(images: Sequence[ImageMasks], classes: Sequence[str]) -> Measures:
    """Computes the numbers of a report.

    Objects and detections are compared within their class. Objects without a pixel are left out. The size of an object is the
    number of its mask's pixels; annotation files may have another ``area``.

    Time: that of COCO's AP by size, and for each image the overlaps of all its masks. Memory: two copies of the masks, run-length
    encoded.

    Args:
        images: N, at least one.
        classes: names.

    Raises:
        ValueError: if there is no image.

    Example:
        >>> left, both = (coco_mask.encode(np.asfortranarray([row], np.uint8)) for row in ([1, 0], [1, 1]))
        >>> none = np.array([], int)
        >>> image = ImageMasks([left], np.array([0.9]), np.array([0]), [both], np.array([0]), [], none)
        >>> round(measure([image], ['cell']).ap_all[0], 2)  # IoU 0.5 is a hit at the lowest of ten thresholds
        0.1
    """
    if not images:
        raise ValueError('expected at least one image, got none')
    truths = [true_objects(image) for image in images]
    found_N = [_detections(image, truth) for image, truth in zip(images, truths, strict=True)]
    matches = [match_image(truth, found) for truth, found in zip(truths, found_N, strict=True)]
    coco_truth, coco_found = coco_of_truth(truths), coco_of_detections(found_N)
    # (T, C, A, M); see ap_table
    ap_TCAM = ap_table(coco_truth, coco_found, range(len(classes)), LIMIT)
    score_K, hit_K, iou_K = (
        np.concatenate([getattr(image, name) for image in matches]) for name in ('score_K', 'hit_K', 'iou_K')
    )
    bins = score_bins(score_K, iou_K, hit_K)
    return Measures(
        matches,
        _ap_values(ap_TCAM[..., 0]),
        _ap_values(ap_TCAM[..., 1]),
        [_class_row(name, label, matches, ap_TCAM[:, label : label + 1, :, 1]) for label, name in enumerate(classes)],
        ScoreCurve(score_K, hit_K, sum(len(image.label_G) for image in matches)),
        bins,
        _ratio(sum(one.detections * abs(one.score - one.iou) for one in bins), len(score_K)),
        _find_faults(truths, found_N),
    )


def true_objects(image: ImageMasks) -> TrueObjects:
    """The objects of an image that have a pixel; the network's map is taken to be able to hold each of them."""
    kept_G = np.array([coco_mask.area(mask) > 0 for mask in image.objects_G], bool)
    masks_G = [mask for mask, kept in zip(image.objects_G, kept_G, strict=True) if kept]
    return TrueObjects(
        masks_G, image.object_labels_G[kept_G], list(masks_G), list(image.crowds_J), image.crowd_labels_J
    )


def _detections(image: ImageMasks, truth: TrueObjects) -> Detections:
    object_K = pair_with_objects(image.masks_K, truth.masks_G)
    return Detections(image.masks_K, image.scores_K.astype(float), image.labels_K.astype(np.int64), object_K)


def match_image(truth: TrueObjects, found: Detections) -> ImageMatches:
    """Compares the detections of an image, in order of falling score, with its objects.

    A detection is right if an object of its class that no better detection has taken overlaps it with an IoU of 0.5 or more; it
    takes the one with the highest IoU (:func:`~..mask_overlap.match_greedily`). One that is not right and lies in a crowd of its
    class with half of its pixels or more is left out, as COCO's AP does. IoU of the pairs: :func:`~..rank_by_iou`.

    Example:
        >>> one = [coco_mask.encode(np.asfortranarray([[1, 1]], np.uint8))]
        >>> truth, none = TrueObjects(one, np.array([0]), one, [], np.array([], int)), np.array([-1, -1])
        >>> match_image(truth, Detections(one * 2, np.array([0.9, 0.8]), np.array([1, 0]), none)).hit_K
        array([False,  True])
    """
    iou_KG = mask_iou(found.masks_K, truth.masks_G)
    iou_KG[found.label_K[:, None] != truth.label_G] = 0
    hit_K = match_greedily(iou_KG, [HIT_IOU])[0]
    inside_KJ = mask_iou(found.masks_K, truth.crowds_J, crowd=True)
    inside_KJ[found.label_K[:, None] != truth.crowd_label_J] = 0
    counted_K = hit_K | (inside_KJ.max(1, initial=0) < 0.5)
    iou_K = rank_by_iou(truth, found)[0].score_K
    return ImageMatches(
        found.score_K[counted_K],
        found.label_K[counted_K],
        hit_K[counted_K],
        iou_K[counted_K],
        truth.label_G.astype(np.int64),
    )


def score_bins(score_K: np.ndarray, iou_K: np.ndarray, hit_K: np.ndarray) -> list[ScoreBin]:
    """The bins of width 0.1 that have detections, from low to high scores; 1 belongs to the last bin.

    Example:
        >>> score_bins(np.array([0.875, 0.8125, 1.0]), np.array([0.75, 0.0, 0.9]), np.array([True, False, True]))[0]
        ScoreBin(low=0.8, high=0.9, detections=2, score=0.84375, iou=0.375, right=0.5)
    """
    # Multiplied, not divided: 0.3 / 0.1 is less than 3 in binary.
    bin_K = np.clip(np.floor(score_K * BINS), 0, BINS - 1).astype(int)
    bins = []
    for number in np.unique(bin_K).tolist():
        of_bin_K = bin_K == number
        means = (float(values_K[of_bin_K].mean()) for values_K in (score_K, iou_K, hit_K))
        bins.append(ScoreBin(number / BINS, (number + 1) / BINS, int(of_bin_K.sum()), *means))
    return bins


def _ap_values(ap_TCA: np.ndarray) -> tuple[float, ...]:
    """Means over thresholds and classes, at IoU 0.5 and at 0.75, then over the thresholds for each size."""
    all_TC = ap_TCA[:, :, 0]
    means = [all_TC, all_TC[0], all_TC[5], *(ap_TCA[:, :, size] for size in (1, 2, 3))]
    return tuple(_mean(values[~np.isnan(values)]) for values in means)


def _class_row(name: str, label: int, matches: Sequence[ImageMatches], ap_TCA: np.ndarray) -> ClassRow:
    true_N = np.array([np.count_nonzero(image.label_G == label) for image in matches])
    predicted_N = np.array([np.count_nonzero(image.label_K == label) for image in matches])
    error = float(np.abs(predicted_N - true_N).mean())
    return ClassRow(name, int(true_N.sum()), int(predicted_N.sum()), _ap_values(ap_TCA), error)


def _find_faults(truths: Sequence[TrueObjects], found_N: Sequence[Detections]) -> dict[str, list[tuple[int, Fault]]]:
    """The errors of all images, each when the kinds before it are corrected: a merge leaves no missed object."""
    faults: dict[str, list[tuple[int, Fault]]] = {kind: [] for kind in FAULTS}
    for number, (truth, found) in enumerate(zip(truths, found_N, strict=True)):
        corrected = found
        for kind in FAULTS:
            corrected, faults_of_image = CORRECTIONS[kind](truth, corrected)
            faults[kind] += [(number, fault) for fault in faults_of_image]
    for entries in faults.values():
        entries.sort(key=lambda entry: -entry[1].severity)
    return faults


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float('nan')


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float('nan')
