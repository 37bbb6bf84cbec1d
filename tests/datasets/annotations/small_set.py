"""A small COCO json without a fault, and plain ways to read masks."""

import copy

import numpy as np
from pycocotools import mask as coco_mask

SIZES = {1: (20, 30), 2: (16, 16)}
"""(height, width) of each image."""


def rectangle(size: tuple[int, int], top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def ring(top: int, left: int, bottom: int, right: int) -> list[int]:
    return [left, top, right, top, right, bottom, left, bottom]


def as_text(mask: np.ndarray) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask))
    return {'size': list(mask.shape), 'counts': encoded['counts'].decode()}


def as_numbers(mask: np.ndarray) -> dict:
    counts, value = [0], 0
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {'size': list(mask.shape), 'counts': counts}


# Boxes (top, left, bottom, right) of each annotation's parts.
PARTS = {
    1: [(2, 3, 8, 9)],
    2: [(1, 12, 6, 16), (8, 12, 12, 20)],
    3: [(10, 2, 18, 9)],
    4: [(13, 20, 19, 29)],
    5: [(0, 0, 5, 16)],
}
IMAGE_OF = {1: 1, 2: 1, 3: 1, 4: 1, 5: 2}
_FORMS = {1: 'polygon', 2: 'polygon', 3: 'numbers', 4: 'text', 5: 'text'}


def mask_of(number: int) -> np.ndarray:
    """The mask of an annotation, drawn as rectangles."""
    return np.max([rectangle(SIZES[IMAGE_OF[number]], *part) for part in PARTS[number]], axis=0)


def small_set() -> dict:
    """Two images; objects 1 to 4 of the first as polygons and both kinds of run lengths, a crowd on the second."""
    images = [
        {'id': number, 'file_name': f'{number}.png', 'height': height, 'width': width}
        for number, (height, width) in SIZES.items()
    ]
    annotations = []
    for number, parts in PARTS.items():
        mask = mask_of(number)
        form = {'text': as_text, 'numbers': as_numbers}.get(_FORMS[number])
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        annotations.append(
            {
                'id': number,
                'image_id': IMAGE_OF[number],
                'category_id': 1 + number % 2,
                'iscrowd': int(number == 5),
                'area': int(mask.sum()),
                'bbox': [int(side) for side in box],
                'segmentation': form(mask) if form else [ring(*part) for part in parts],
            }
        )
    categories = [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}]
    return copy.deepcopy({'images': images, 'annotations': annotations, 'categories': categories})
