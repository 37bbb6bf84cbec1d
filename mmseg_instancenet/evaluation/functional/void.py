"""Void (unlabelled) pixels are excluded from the evaluation.

In a COCO json void is an annotation of the category ``void``, ``iscrowd=1``, no class of the data set. COCO's own
protocol has no such thing (a crowd excuses detections of its own class only), so void is cut out of predicted masks
before they are matched, as VOC and Hariharan et al. (2014) do.
"""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from ...structures import VOID


def void_masks(coco: COCO) -> dict[int, dict]:
    """The void pixels of each image that has any: image id to run-length encoded mask.

    Args:
        coco: with the annotations of a data set; without a category ``void`` (COCO's own) the result is empty.

    Example:
        >>> coco = COCO()
        >>> coco.dataset = {'images': [], 'annotations': [], 'categories': [{'id': 1, 'name': 'cat'}]}
        >>> void_masks(coco)
        {}
    """
    categories = {category['id'] for category in coco.dataset['categories'] if category['name'] == VOID}
    regions: dict[int, list[dict]] = {}
    for annotation in coco.dataset.get('annotations', []):  # COCO's lists of test images have none
        if annotation['category_id'] in categories:
            regions.setdefault(annotation['image_id'], []).append(coco.annToRLE(annotation))
    return {image_id: coco_mask.merge(masks) for image_id, masks in regions.items()}


def remove_void(masks: Sequence[dict], void: dict) -> list[dict]:
    """Masks without the void pixels; a mask that is entirely void becomes empty (``area`` 0), and none is dropped.

    Peak memory beside the masks: one (H, W) uint8 array.

    Args:
        masks: run-length encoded masks (``size``, ``counts``) of one image.
        void: run-length encoded void pixels of the same image.

    Raises:
        ValueError: if a mask has another size than the void.

    Example:
        >>> mask, void = (coco_mask.encode(np.asfortranarray([[*row]], np.uint8)) for row in ([1, 1, 1, 0], [0, 0, 1, 1]))
        >>> coco_mask.decode(remove_void([mask], void)[0]).tolist()
        [[1, 1, 0, 0]]
    """
    for mask in masks:
        if list(mask['size']) != list(void['size']):
            raise ValueError(
                f'expected masks of the size {list(void["size"])} of the void, got {list(mask["size"])}: predicted masks '
                'have to be of the original size of their image'
            )
    known = coco_mask.encode(np.asfortranarray(1 - coco_mask.decode(void)))
    return [coco_mask.merge([mask, known], intersect=True) for mask in masks]
