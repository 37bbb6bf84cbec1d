"""From mask files to annotations."""

from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from skimage import measure
from skimage.segmentation import relabel_sequential

from ...structures import VOID, labels_to_rle
from .folders import AnnotatedFile, MaskFile
from .mask_files import FaultyMaskError, image_sizes, read_mask

_ONE_LABEL_PIECES = 3
"""Pieces of the only label of an image from which on it is suspected to be a mask of all objects."""

Note = Callable[[str, str], None]
"""Counts a finding: key of :data:`CHECKS` and text."""


def label_objects(labels_HW: np.ndarray, ignore_label: int | None = None) -> tuple[list[int], list[dict], dict | None]:
    """The objects of a label image.

    Peak memory: about 40 bytes a pixel.

    Args:
        labels_HW: (H, W) integers, 0 = background; labels need not be consecutive, nor of one piece.
        ignore_label: value of unlabelled pixels.

    Returns:
        the K labels in their order; their K masks in COCO's run lengths; and that of the unlabelled pixels, ``None`` where there
        are none.

    Raises:
        ValueError: if a label is negative.

    Example:
        >>> labels, masks, unlabelled = label_objects(np.array([[0, 7, 7], [300, 0, 255]]), ignore_label=255)
        >>> labels, coco_mask.decode(masks[0]).tolist(), coco_mask.area(unlabelled).item()
        ([7, 300], [[0, 1, 1], [0, 0, 0]], 1)
    """
    unlabelled = None
    if ignore_label is not None:
        ignored_HW = labels_HW == ignore_label
        if ignored_HW.any():
            unlabelled = coco_mask.encode(np.asfortranarray(ignored_HW, np.uint8))
            labels_HW = np.where(ignored_HW, 0, labels_HW)
    least = labels_HW.min(initial=0)
    if least < 0:
        raise ValueError(f'label {least}')
    number_HW, _, label_of = relabel_sequential(labels_HW.astype(np.int64))
    labels = np.asarray(label_of)[1:].tolist()
    return labels, labels_to_rle(number_HW, len(labels)), unlabelled


def annotate(
    image: AnnotatedFile, ignore_label: int | None, class_of: Callable[[str, str], str | None] | None, note: Note
) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """The annotations of an image, with the name of the class in place of its number (``category``) and without ids.

    Args:
        image: with its mask files.
        ignore_label: see :func:`label_objects`.
        class_of: the class of a label of an image; ``None`` for those of the class folders, or one class.
        note: counts findings that are no faults.

    Returns:
        (height, width), and the annotations; those of unlabelled pixels have the category ``void``.

    Raises:
        FaultyMaskError: if a mask cannot be used.
    """
    sizes = image_sizes(image.path)
    size: tuple[int, int] | None = None
    annotations: list[dict[str, Any]] = []
    for mask in image.masks or []:
        values_HW = read_mask(mask.path)
        expected = sizes if size is None else [size]
        if expected and values_HW.shape not in expected:
            by = ' or '.join(f'{height} x {width}' for height, width in expected)
            found = f'{values_HW.shape[0]} x {values_HW.shape[1]}'
            raise FaultyMaskError('mask-of-other-size', f'{mask.path} is {found}, {image.path} {by} (height x width)')
        size = values_HW.shape[0], values_HW.shape[1]
        try:
            labels, masks, unlabelled = label_objects(values_HW, None if mask.one_object else ignore_label)
        except ValueError as error:
            raise FaultyMaskError('negative-label', f'{error} in {mask.path}') from error
        if mask.one_object:
            _check_one_object(mask, labels, note)
            names = [mask.path.stem] * len(masks)
        else:
            _check_label_image(mask, values_HW, labels, note)
            names = [str(label) for label in labels]
        for name, rle in zip(names, masks, strict=True):
            category = mask.class_name
            if class_of is not None:
                category = class_of(image.key, name)
                if category is None:
                    raise FaultyMaskError('label-without-class', f'label {name} of {mask.path}')
            annotations.append({'category': category, 'label': name, 'segmentation': rle})
        if unlabelled is not None:
            annotations.append({'category': VOID, 'label': str(ignore_label), 'segmentation': unlabelled})
    if size is None:  # an empty folder of masks
        if not sizes:
            raise FaultyMaskError('unknown-size', str(image.path))
        size = sizes[0]
    masks = [annotation['segmentation'] for annotation in annotations]
    areas = [coco_mask.area(mask) for mask in masks]  # with numpy 2 pycocotools refuses a list of more than 255
    boxes = coco_mask.toBbox(masks) if masks else []
    for annotation, area, box in zip(annotations, areas, boxes, strict=True):
        rle = annotation['segmentation']
        annotation.update(
            iscrowd=int(annotation['category'] == VOID),
            area=int(area),
            bbox=box.tolist(),
            segmentation={'size': list(rle['size']), 'counts': rle['counts'].decode()},
        )
    return size, annotations


def _check_one_object(mask: MaskFile, labels: list[int], note: Note) -> None:
    if len(labels) > 1:
        raise FaultyMaskError('values-of-one-object', f'{len(labels)} values besides 0 in {mask.path}')
    if not labels:
        note('empty-object-file', str(mask.path))


def _check_label_image(mask: MaskFile, values_HW: np.ndarray, labels: list[int], note: Note) -> None:
    """A mask of all objects, taken for a label image, would make them one object."""
    if len(labels) != 1:
        return
    pieces = int(measure.label(values_HW == labels[0], connectivity=2).max())
    if labels == [255] and pieces > 1:
        raise FaultyMaskError('binary-mask', f'{mask.path}: {pieces} pieces of the value 255')
    if pieces >= _ONE_LABEL_PIECES:
        note('one-label', f'{mask.path}: {pieces} pieces of the value {labels[0]}')
