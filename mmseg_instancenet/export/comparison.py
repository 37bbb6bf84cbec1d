"""Comparison of the instances of a model with those of its exported files."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..evaluation.functional.label_overlap import label_overlap

SAME_IOU = 0.99
"""An instance counts as the same if it overlaps with one of the other map by more than this, and has its class."""


class Instances(NamedTuple):
    """Instances of an image: ``labels_HW``, 0 = none, k = the k-th; the name of the class and the score of each."""

    labels_HW: np.ndarray
    classes: Sequence[str]
    scores: Sequence[float]


class Differences(NamedTuple):
    """Differences between the instances of an image by two programs.

    Attributes:
        instances: that at least one of the two has: those of the first, and those of the second that have no partner.
        same: of them, with an IoU above 0.99 and one class.
        lowest_iou: of an instance with its partner; 0 for one without, 1 without instances.
        other_classes: pairs of partners with different classes.
        score: the largest difference between the scores of two partners of one class.
    """

    instances: int
    same: int
    lowest_iou: float
    other_classes: int
    score: float


def compare_instances(first: Instances, second: Instances) -> Differences:
    """Compares the instances of one image; partners are two instances with an IoU above 1/2.

    Example:
        >>> labels = np.array([[1, 1, 0, 2]])
        >>> compare_instances(Instances(labels, ['cat', 'dog'], [0.9, 0.5]), Instances(labels, ['cat', 'cat'], [0.7, 0.5]))
        Differences(instances=2, same=1, lowest_iou=1.0, other_classes=1, score=0.2)
    """
    overlap = label_overlap(first.labels_HW, second.labels_HW)
    partners = [
        (iou, first.classes[one] == second.classes[other], abs(first.scores[one] - second.scores[other]))
        for one, other, iou in zip(overlap.truth_Q, overlap.prediction_Q, overlap.iou_Q.tolist(), strict=True)
        if iou > 0.5
    ]
    count = len(first.scores) + len(second.scores) - len(partners)
    return Differences(
        instances=count,
        same=sum(iou > SAME_IOU and alike for iou, alike, _ in partners),
        lowest_iou=min((iou for iou, _, _ in partners), default=1.0) if count == len(partners) else 0.0,
        other_classes=sum(not alike for _, alike, _ in partners),
        score=round(max((score for _, alike, score in partners if alike), default=0.0), 9),
    )
