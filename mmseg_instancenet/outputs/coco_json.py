"""Instances in COCO's annotation format, as pycocotools and :func:`read_annotations` read it."""

import json
from collections.abc import Iterable, Sequence
from typing import TextIO

from .instance_result import InstanceResult


def coco_annotations(result: InstanceResult) -> list[dict]:
    """The K annotations of one image, without the numbers of the annotation and of the image, which depend on the other images.

    Returns:
        dicts with ``category_id`` (1 for the first class), ``segmentation`` (``size`` (height, width) and compressed run lengths
        ``counts`` as text), ``score``, ``area`` (pixels), ``bbox`` (x, y, width, height) and ``iscrowd`` (0).

    Example:
        >>> import numpy as np
        >>> from pycocotools import mask as coco_mask
        >>> from mmseg_instancenet.structures import RunLengthMasks
        >>> masks = RunLengthMasks([coco_mask.encode(np.asfortranarray([[0, 1, 1]], np.uint8))], (1, 3))
        >>> labels, boxes = np.array([[0, 1, 1]], np.int32), np.array([[1, 0, 3, 1]], np.float32)
        >>> result = InstanceResult(labels, np.array([0]), np.array([0.9], np.float32), boxes, masks, ('nucleus',))
        >>> [annotation] = coco_annotations(result)
        >>> annotation['segmentation'], annotation['bbox'], annotation['score']
        ({'size': [1, 3], 'counts': '12'}, [1.0, 0.0, 2.0, 1.0], 0.9)
    """
    annotations = []
    for mask, index, score, area, (left, top, right, bottom) in zip(
        result.masks,
        result.class_indices.tolist(),
        result.decimal_scores,
        result.areas.tolist(),
        result.boxes.tolist(),
        strict=True,
    ):
        counts = mask['counts']
        annotations.append(
            {
                'category_id': index + 1,
                'segmentation': {
                    'size': [int(length) for length in mask['size']],
                    'counts': counts.decode('ascii') if isinstance(counts, bytes) else counts,
                },
                'score': score,
                'area': area,
                'bbox': [left, top, right - left, bottom - top],
                'iscrowd': 0,
            }
        )
    return annotations


def coco_image(number: int, row: dict) -> dict:
    """The entry of an image.

    Args:
        number: of the image, its ``id``.
        row: of the table of images, :func:`image_row`.
    """
    return {'id': number, 'file_name': row['image'], 'height': row['height'], 'width': row['width']}


def write_coco(file: TextIO, class_names: Sequence[str], images: Iterable[dict], annotations: Iterable[dict]) -> None:
    """Writes a COCO json entry by entry; memory is that of one entry.

    Args:
        file: open for text.
        class_names: become the categories 1, 2, ..
        images: entries of :func:`coco_image`.
        annotations: entries of :func:`coco_annotations` with ``image_id``; they are numbered from 1 here.

    Example:
        >>> import io
        >>> file = io.StringIO()
        >>> write_coco(file, ['nucleus'], [coco_image(1, {'image': 'a.png', 'height': 2, 'width': 3})], [])
        >>> json.loads(file.getvalue())['categories']
        [{'id': 1, 'name': 'nucleus'}]
    """
    categories = [{'id': number, 'name': name} for number, name in enumerate(class_names, start=1)]
    numbered = ({'id': number, **annotation} for number, annotation in enumerate(annotations, start=1))
    file.write('{"images": ')
    _write_list(file, images)
    file.write(f',\n"categories": {json.dumps(categories)},\n"annotations": ')
    _write_list(file, numbered)
    file.write('}\n')


def _write_list(file: TextIO, entries: Iterable[dict]) -> None:
    file.write('[')
    for number, entry in enumerate(entries):
        file.write((',\n' if number else '\n') + json.dumps(entry))
    file.write(']')
