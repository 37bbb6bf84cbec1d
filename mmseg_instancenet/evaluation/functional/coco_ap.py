"""COCO's AP without its limit of detections, by pycocotools: of a whole data set, and of images drawn from it."""

import copy
import io
from collections.abc import Sequence
from contextlib import redirect_stdout

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def match_images(
    truth: COCO,
    detections: COCO,
    category_ids: Sequence[int],
    image_ids: Sequence[int],
    iou_thresholds: Sequence[float] | np.ndarray | None = None,
) -> COCOeval:
    """Matches the masks of each image by COCO's rules, for objects of all sizes and any number of detections.

    Time grows with the product of detections and objects of each image and class.

    Args:
        truth: annotations.
        detections: annotations with a ``score``.
        category_ids, image_ids: those that count.
        iou_thresholds: COCO's 0.5:0.05:0.95 unless given.

    Returns:
        pycocotools' evaluation, for :func:`mean_ap`.
    """
    evaluation = COCOeval(truth, detections, 'segm')
    parameters = evaluation.params
    parameters.catIds, parameters.imgIds = list(category_ids), list(image_ids)
    if iou_thresholds is not None:
        parameters.iouThrs = np.asarray(iou_thresholds)
    parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], parameters.areaRngLbl[:1]
    parameters.maxDets = [max(1, len(detections.anns))]
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    return evaluation


def mean_ap(evaluation: COCOeval, drawn_N: np.ndarray | None = None) -> float:
    """Mean of the AP over IoU thresholds and over the classes that have an object.

    Args:
        evaluation: from :func:`match_images`.
        drawn_N: (N,) integers, places in the sorted ids of the images, in their order: the AP is that of a data set with these
            images, of which some may be there several times. All images once unless given.

    Returns:
        AP from 0 to 1; -1 where there is no object, as COCO's.
    """
    evaluation = copy.copy(evaluation)
    if drawn_N is not None:
        # One entry for each class and image, class by class.
        starts = range(0, len(evaluation.evalImgs), len(evaluation.params.imgIds))
        evaluation.evalImgs = [evaluation.evalImgs[start + place] for start in starts for place in drawn_N.tolist()]
        evaluation.params = copy.copy(evaluation.params)
        evaluation.params.imgIds = list(range(len(drawn_N)))  # pycocotools passes over an id that repeats
        evaluation._paramsEval = evaluation.params
    with redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    precision = evaluation.eval['precision']
    known = precision > -1
    return float(np.mean(precision[known])) if known.any() else -1.0
