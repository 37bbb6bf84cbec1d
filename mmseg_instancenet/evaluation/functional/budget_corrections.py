"""Corrections of the detections of one image, one for each kind of error: the ground truth is put in the place of the error.

Shapes: G objects of the ground truth, K detections, J crowd regions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment

from ...datasets.transforms.load_masks import crops_of
from ...datasets.transforms.masks_to_maps import masks_to_maps
from ...structures import BoxedMasks, labels_to_rle
from .label_overlap import owners, owners_of_several
from .mask_overlap import mask_iou, mask_overlap

LOWEST_IOU = 0.1
"""A detection whose IoU is lower is no detection of the object; TIDE's ``t_b``."""


class TrueObjects(NamedTuple):
    """The ground truth of an image; masks are run-length encoded.

    Attributes:
        masks_G: each with a pixel; they may overlap.
        label_G: (G,) integers, classes from 0.
        drawable_G: of each object the mask that a perfect network would give at the resolution of the head's map; ``None`` for an
            object that this map cannot hold.
        crowds_J, crowd_label_J: regions of many objects, and their classes.
    """

    masks_G: list[dict]
    label_G: np.ndarray
    drawable_G: list[dict | None]
    crowds_J: list[dict]
    crowd_label_J: np.ndarray


class Detections(NamedTuple):
    """The detections of an image.

    Attributes:
        masks_K: run-length encoded, each with a pixel; they may overlap.
        score_K: (K,) float64, finite.
        label_K: (K,) int64, classes from 0.
        object_K: (K,) int64, the object that each is paired with, each object once at most; -1 for none.
    """

    masks_K: list[dict]
    score_K: np.ndarray
    label_K: np.ndarray
    object_K: np.ndarray


class Fault(NamedTuple):
    """One error: ``severity``, larger for a worse one, and the masks that it is about."""

    severity: float
    masks: list[dict]


Correction = Callable[[TrueObjects, Detections], tuple[Detections, list[Fault]]]


def pair_with_objects(masks_K: list[dict], masks_G: list[dict]) -> np.ndarray:
    """Pairs detections with objects one to one, so that the sum of the IoU is largest; no pair has an IoU below 0.1.

    The classes are not looked at.

    Args:
        masks_K, masks_G: run-length encoded masks of one image.

    Returns:
        (K,) int64, the object of each detection, -1 for none.

    Example:
        >>> a, b, c = (coco_mask.encode(np.asfortranarray([row], np.uint8)) for row in ([1, 1, 0], [0, 1, 1], [0, 0, 1]))
        >>> pair_with_objects([a, b, c], [b])
        array([-1,  0, -1])
    """
    iou_KG = mask_iou(masks_K, masks_G)
    iou_KG[iou_KG < LOWEST_IOU] = 0
    object_K = np.full(len(masks_K), -1)
    row, column = linear_sum_assignment(iou_KG, maximize=True)
    paired = iou_KG[row, column] > 0
    object_K[row[paired]] = column[paired]
    return object_K


def cut_merges(truth: TrueObjects, found: Detections) -> tuple[Detections, list[Fault]]:
    """Cuts each detection that merges objects along the true borders.

    An object belongs to the detection, or to the background, that has most of its pixels
    (:func:`~.label_overlap.count_splits_and_merges`); where objects overlap, the pixels are those of the smaller one. A detection
    to which two or more belong is cut: each pixel goes to the nearest of these objects. An object that the whole detection fits
    better than its piece, as one around another, gets the whole. Score and class stay. Severity: the number of objects.
    """
    overlap = mask_overlap(_visible(truth.masks_G), found.masks_K)
    owner_G = owners(overlap.truth_Q, overlap.prediction_Q, overlap.pixels_Q, overlap.truth_area_G)
    merged = owners_of_several(owner_G)
    if not len(merged):
        return found, []
    pieces: list[dict] = []
    whole: list[int] = []
    faults = []
    for index in merged.tolist():
        objects = [truth.masks_G[number] for number in np.flatnonzero(owner_G == index)]
        cut = _cut(found.masks_K[index], objects)
        pieces += cut
        whole += [index] * len(cut)
        faults.append(Fault(len(objects), [found.masks_K[index], *objects]))
    return _replace(truth, found, merged, pieces, whole), faults


def join_splits(truth: TrueObjects, found: Detections) -> tuple[Detections, list[Fault]]:
    """Joins the pieces of each object.

    A detection belongs to the object, or to the background, that has most of its pixels; where objects overlap, the pixels are
    those of the smaller one. Two or more detections of one object become one: their union, or the one with the highest IoU where
    that fits the object better, with score and class of the one with the highest score. A second detection of an object is thus a
    piece of it. Severity: 1 - IoU of the object and its best piece.
    """
    overlap = mask_overlap(_visible(truth.masks_G), found.masks_K)
    owner_K = owners(overlap.prediction_Q, overlap.truth_Q, overlap.pixels_Q, overlap.prediction_area_K)
    split = owners_of_several(owner_K)
    if not len(split):
        return found, []
    joined: list[dict] = []
    best: list[int] = []
    faults = []
    for number in split.tolist():
        index_M = np.flatnonzero(owner_K == number)
        pieces = [found.masks_K[index] for index in index_M]
        mask = truth.masks_G[number]
        iou_M = mask_iou(pieces, [mask])[:, 0]
        joined.append(_better(mask, coco_mask.merge(pieces), pieces[iou_M.argmax()]))
        best.append(int(index_M[found.score_K[index_M].argmax()]))
        faults.append(Fault(1 - float(iou_M.max()), [mask, *pieces]))
    return _replace(truth, found, np.flatnonzero(np.isin(owner_K, split)), joined, best), faults


def correct_classes(truth: TrueObjects, found: Detections) -> tuple[Detections, list[Fault]]:
    """Gives each paired detection the class of its object. Severity: the score."""
    label_K = _true_labels(truth, found)
    wrong = np.flatnonzero(label_K != found.label_K)
    faults = [Fault(float(found.score_K[index]), [found.masks_K[index]]) for index in wrong]
    return found._replace(label_K=label_K), faults


def remove_invented(truth: TrueObjects, found: Detections) -> tuple[Detections, list[Fault]]:
    """Removes the detections that are paired with no object. Severity: the score.

    One of which half or more lies in a crowd is removed too, and is no error.
    """
    invented = np.flatnonzero(found.object_K < 0)
    masks = [found.masks_K[index] for index in invented]
    in_crowd = mask_iou(masks, truth.crowds_J, crowd=True).max(1, initial=0) >= 0.5
    faults = [
        Fault(float(found.score_K[index]), [mask])
        for index, mask, excused in zip(invented, masks, in_crowd, strict=True)
        if not excused
    ]
    return _take(found, np.flatnonzero(found.object_K >= 0)), faults


def rank_by_iou(truth: TrueObjects, found: Detections) -> tuple[Detections, list[Fault]]:
    """Replaces each score by the IoU with the object that the detection is paired with, 0 without one or with a wrong class.

    Severity: the difference of the two.
    """
    score_K = np.where(found.label_K == _true_labels(truth, found), _iou_of_pairs(truth, found), 0.0)
    faults = [
        Fault(float(abs(score - given)), [mask])
        for score, given, mask in zip(score_K, found.score_K, found.masks_K, strict=True)
    ]
    return found._replace(score_K=score_K), faults


def add_missed(truth: TrueObjects, found: Detections) -> tuple[Detections, list[Fault]]:
    """Adds the objects that no detection is paired with, as the head's map can hold them, with their class.

    The score is the IoU of the mask that is added. Objects that the map cannot hold are left to :func:`correct_resolution`.
    Severity: the area in pixels.
    """
    missed = [number for number in _unpaired(truth, found) if truth.drawable_G[number] is not None]
    faults = [Fault(float(coco_mask.area(truth.masks_G[number])), [truth.masks_G[number]]) for number in missed]
    return _add(truth, found, missed, truth.drawable_G), faults


def correct_boundaries(truth: TrueObjects, found: Detections) -> tuple[Detections, list[Fault]]:
    """Corrects the pixels of each paired detection except those that a perfect network of this resolution gets wrong as well.

    These are the pixels in which the object's mask and ``drawable_G`` differ. Severity: 1 - IoU with the object.
    """
    return _correct_pixels(truth, found, of_resolution=False)


def correct_resolution(truth: TrueObjects, found: Detections) -> tuple[Detections, list[Fault]]:
    """Corrects the pixels of each paired detection that a perfect network of this resolution gets wrong as well, and adds the
    objects that the head's map cannot hold, with score 1.

    Severity: 1 - IoU with the object.
    """
    lost = [number for number in _unpaired(truth, found) if truth.drawable_G[number] is None]
    corrected, faults = _correct_pixels(truth, found, of_resolution=True)
    faults += [Fault(1.0, [truth.masks_G[number]]) for number in lost]
    return _add(truth, corrected, lost, truth.masks_G), faults


CORRECTIONS: dict[str, Correction] = {
    'merges': cut_merges,
    'splits': join_splits,
    'classes': correct_classes,
    'invented': remove_invented,
    'ranking': rank_by_iou,
    'missed': add_missed,
    'boundaries': correct_boundaries,
    'resolution': correct_resolution,
}
"""The kinds of error in the order of their correction. After all of them each object is detected once, by its own mask."""


def _visible(masks_G: list[dict]) -> list[dict]:
    """The masks without the pixels in which a smaller one lies on top."""
    # One by one: pycocotools 2.0 cuts the areas of a list to 8 bits.
    if sum(coco_mask.area(mask) for mask in masks_G) == coco_mask.area(coco_mask.merge(masks_G)):
        return masks_G
    none_G = np.zeros(len(masks_G), int)
    _, instance_HW = masks_to_maps(BoxedMasks(crops_of(masks_G), *masks_G[0]['size']), none_G, none_G.astype(bool))
    return labels_to_rle(instance_HW, len(masks_G))


def _cut(mask: dict, objects: Sequence[dict]) -> list[dict]:
    """For each object the piece of a mask that is nearer to it than to the others, or the whole mask where it fits better."""
    (top, left), (mask_hw, *object_hw) = _in_one_box([mask, *objects])
    labels_hw = np.zeros(mask_hw.shape, int)
    for number in sorted(range(len(objects)), key=lambda number: -object_hw[number].sum()):
        labels_hw[object_hw[number]] = number + 1  # the smaller one lies on top, as in the label maps
    row_hw, column_hw = distance_transform_edt(labels_hw == 0, return_distances=False, return_indices=True)
    nearest_HW = np.zeros(mask['size'], int)
    height, width = mask_hw.shape
    nearest_HW[top : top + height, left : left + width] = np.where(mask_hw, labels_hw[row_hw, column_hw], 0)
    pieces = labels_to_rle(nearest_HW, len(objects))
    return [_better(true, piece, mask) for true, piece in zip(objects, pieces, strict=True)]


def _better(true: dict, *masks: dict) -> dict:
    """The mask with the highest IoU, the first one among equals."""
    return masks[mask_iou(masks, [true])[:, 0].argmax()]


def _correct_pixels(truth: TrueObjects, found: Detections, of_resolution: bool) -> tuple[Detections, list[Fault]]:
    masks_K = list(found.masks_K)
    faults = []
    for index, iou in enumerate(_iou_of_pairs(truth, found)):
        number = found.object_K[index]
        if number < 0 or iou == 1:
            continue
        true, drawable = truth.masks_G[number], truth.drawable_G[number]
        corrected = _put_truth(masks_K[index], true, drawable, of_resolution)
        if corrected:
            faults.append(Fault(1 - float(iou), [true, masks_K[index]]))
            masks_K[index] = corrected
    return found._replace(masks_K=masks_K), faults


def _put_truth(mask: dict, true: dict, drawable: dict | None, of_resolution: bool) -> dict | None:
    """A mask with the true value of the pixels in which ``true`` and ``drawable`` differ, or else of all the others.

    ``None`` where they have it.
    """
    (top, left), (mask_hw, true_hw, *drawable_hw) = _in_one_box([mask, true, *([drawable] if drawable else [])])
    differs_hw = true_hw != drawable_hw[0] if drawable_hw else true_hw
    corrected_hw = np.where(differs_hw == of_resolution, true_hw, mask_hw)
    if np.array_equal(corrected_hw, mask_hw):
        return None
    corrected_HW = np.zeros(mask['size'], np.uint8, order='F')
    height, width = mask_hw.shape
    corrected_HW[top : top + height, left : left + width] = corrected_hw
    return coco_mask.encode(corrected_HW)


def _in_one_box(masks: Sequence[dict]) -> tuple[tuple[int, int], list[np.ndarray]]:
    """The first row and column of the box around all masks, and each mask within it, (h, w) bool."""
    crops = crops_of(masks)
    top, left = min(crop.top for crop in crops), min(crop.left for crop in crops)
    bottom = max(crop.box[0].stop for crop in crops)
    right = max(crop.box[1].stop for crop in crops)
    bitmaps = []
    for crop in crops:
        bitmap_hw = np.zeros((bottom - top, right - left), bool)
        rows, columns = crop.box
        bitmap_hw[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = crop.mask_hw
        bitmaps.append(bitmap_hw)
    return (top, left), bitmaps


def _iou_of_pairs(truth: TrueObjects, found: Detections) -> np.ndarray:
    iou_K = np.zeros(len(found.masks_K))
    paired = np.flatnonzero(found.object_K >= 0)
    iou_K[paired] = mask_iou(found.masks_K, truth.masks_G)[paired, found.object_K[paired]]
    return iou_K


def _true_labels(truth: TrueObjects, found: Detections) -> np.ndarray:
    label_K = found.label_K.copy()
    paired = found.object_K >= 0
    label_K[paired] = truth.label_G[found.object_K[paired]]
    return label_K


def _unpaired(truth: TrueObjects, found: Detections) -> list[int]:
    return np.setdiff1d(np.arange(len(truth.masks_G)), found.object_K).tolist()


def _take(found: Detections, index: np.ndarray) -> Detections:
    return Detections([found.masks_K[place] for place in index], *(values[index] for values in found[1:]))


def _add(truth: TrueObjects, found: Detections, numbers: list[int], masks_G: Sequence[dict | None]) -> Detections:
    masks = [mask for mask in (masks_G[number] for number in numbers) if mask is not None]
    added = Detections(masks, np.zeros(len(masks)), truth.label_G[numbers], np.array(numbers, np.int64))
    return Detections(
        [*found.masks_K, *masks],
        np.append(found.score_K, _iou_of_pairs(truth, added)),
        np.append(found.label_K, added.label_K),
        np.append(found.object_K, added.object_K),
    )


def _replace(
    truth: TrueObjects, found: Detections, gone: np.ndarray, masks: list[dict], like: Sequence[int]
) -> Detections:
    """Other masks, with scores and classes of the detections ``like``, in the place of some; all are paired anew."""
    kept = np.setdiff1d(np.arange(len(found.masks_K)), gone)
    index = np.append(kept, like).astype(np.int64)
    masks_K = [*(found.masks_K[place] for place in kept), *masks]
    object_K = pair_with_objects(masks_K, truth.masks_G)
    return Detections(masks_K, found.score_K[index], found.label_K[index], object_K)
