"""COCO's AP without its limit of detections, by pycocotools: of a whole data set, and of images drawn from it."""

import copy
import io
from collections.abc import Sequence
from contextlib import redirect_stdout

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def match_images(
    truth: COCO,
    detections: COCO,
    category_ids: Sequence[int],
    image_ids: Sequence[int],
    iou_thresholds: Sequence[float] | np.ndarray | None = None,
    by_size: bool = False,
    limits: Sequence[int] | None = None,
) -> COCOeval:
    """Matches the masks of each image by COCO's rules, by default for objects of all sizes and any number of detections.

    Time grows with the product of detections and objects of each image and class.

    Args:
        truth: annotations.
        detections: annotations with a ``score``.
        category_ids, image_ids: those that count.
        iou_thresholds: COCO's 0.5:0.05:0.95 unless given.
        by_size: also for small, medium and large objects alone.
        limits: numbers of detections of an image and class that count, in rising order; all of them unless given.

    Returns:
        pycocotools' evaluation, for :func:`mean_ap` and :func:`ap_table`.
    """
    evaluation = COCOeval(truth, detections, 'segm')
    parameters = evaluation.params
    parameters.catIds, parameters.imgIds = list(category_ids), list(image_ids)
    if iou_thresholds is not None:
        parameters.iouThrs = np.asarray(iou_thresholds)
    if not by_size:
        parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], parameters.areaRngLbl[:1]
    parameters.maxDets = list(limits) if limits else [max(1, len(detections.anns))]
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


def ap_table(truth: COCO, detections: COCO, category_ids: Sequence[int], limit: int = 100) -> np.ndarray:
    """AP for each IoU threshold, class and size of object, with COCO's limit of detections and without it.

    Time: that of :func:`match_images`, four times. Memory: 6.5 kB for each threshold and class.

    Args:
        truth: annotations with their ``area``.
        detections: annotations with a ``score``, of the same images.
        category_ids: the C classes.
        limit: detections of an image and class that count, those with the highest scores.

    Returns:
        (10, C, 4, 2): IoU 0.5, 0.55, .. 0.95; objects of all sizes, small (up to 32 x 32 pixels), medium, large (from 96 x 96
        pixels on); with the limit, without. NaN where there is no object.

    Example:
        >>> mask = coco_mask.encode(np.asfortranarray([[1, 1]], np.uint8))
        >>> truth, found = (coco_of_masks(1, [(0, 7, mask, more)]) for more in ({}, {'score': 0.9}))
        >>> ap_table(truth, found, [7])[0, 0, :, 1]
        array([ 1.,  1., nan, nan])
    """
    limits = [limit, max(limit, len(detections.anns))]
    evaluation = match_images(truth, detections, category_ids, truth.getImgIds(), by_size=True, limits=limits)
    with redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    precision_TRCAM = evaluation.eval['precision']
    # pycocotools has -1 at all recalls of a class without an object.
    return np.where(precision_TRCAM[:, 0] < 0, np.nan, precision_TRCAM.mean(1))


def coco_of_masks(num_images: int, entries: Sequence[tuple[int, int, dict, dict]]) -> COCO:
    """Run-length encoded masks as pycocotools reads them.

    Args:
        num_images: their ids are 0, 1, ..
        entries: id of the image, id of the category, mask, and more keys of the annotation, as ``score`` or ``iscrowd``.

    Example:
        >>> coco_of_masks(1, [(0, 3, coco_mask.encode(np.asfortranarray([[1, 1]], np.uint8)), {})]).anns[1]['area']
        2.0
    """
    size_of = {number: mask['size'] for number, _, mask, _ in entries}
    sizes = [size_of.get(number, (0, 0)) for number in range(num_images)]
    coco = COCO()
    coco.dataset = {
        'images': [{'id': number, 'height': size[0], 'width': size[1]} for number, size in enumerate(sizes)],
        'categories': [{'id': label} for label in sorted({label for _, label, _, _ in entries})],
        'annotations': [
            {
                **{'id': place, 'image_id': number, 'category_id': label, 'iscrowd': 0},
                **{'segmentation': mask, 'area': float(coco_mask.area(mask)), **more},
            }
            for place, (number, label, mask, more) in enumerate(entries, 1)
        ],
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
