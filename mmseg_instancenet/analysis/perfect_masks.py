"""The masks that a perfect network would give at the resolution of the head's map."""

import numpy as np
import torch
from pycocotools import mask as coco_mask

from ..evaluation.functional.budget_corrections import LOWEST_IOU
from ..evaluation.functional.mask_overlap import mask_iou
from ..evaluation.metrics.mask_metric import ImageMasks, truth_maps
from ..models.groupers import CenterGrouping
from ..models.postprocess import predict_instances
from ..models.scorers import SilhouetteScorer
from ..structures import labels_to_rle, resize_labels
from .grouping_rows import classify_perfect, perfect_pass


def perfect_masks(masks: ImageMasks, image_size: tuple[int, int], cells: tuple[int, int]) -> list[dict | None]:
    """What is left of each object after the head's map: perfect classes and embeddings of that size, grouped and resized.

    Of overlapping objects each has the pixels in which it lies on top, since a pixel belongs to one instance.

    Args:
        masks: of an image with G objects.
        image_size: (height, width) of the image.
        cells: (height, width) of the part of the head's map that lies on the image.

    Returns:
        run-length encoded masks of the image's size; ``None`` for an object that is lost, or whose IoU with its own mask is below
        0.1.

    Example:
        >>> mask = coco_mask.encode(np.asfortranarray([[1, 1, 1, 0, 0, 0, 0, 0]], np.uint8))
        >>> nothing = np.array([], int)
        >>> masks = ImageMasks([], np.array([]), nothing, [mask], np.array([0]), [], nothing)
        >>> coco_mask.decode(perfect_masks(masks, (1, 8), (1, 2))[0]).tolist()
        [[1, 1, 1, 1, 0, 0, 0, 0]]
    """
    class_HW, instance_HW = (torch.from_numpy(map_HW) for map_HW in truth_maps(masks, image_size))
    num_classes = int(np.max(masks.object_labels_G, initial=0)) + 2  # the largest label, the background
    network_pass = perfect_pass(class_HW, instance_HW, num_classes, cells)
    classes = classify_perfect(network_pass)
    _, found_HW = predict_instances([[network_pass]], *classes, num_classes, CenterGrouping(), SilhouetteScorer())
    found_hw, number_hw = (
        network_pass.under_cells(found_HW, outside=0).numpy(),
        resize_labels(instance_HW, cells).numpy(),
    )
    both_hw = (found_hw > 0) & (number_hw > 0)
    pairs_2R, cells_R = np.unique(np.stack([found_hw[both_hw], number_hw[both_hw]]), axis=1, return_counts=True)
    object_of = np.zeros(int(found_HW.max()) + 1, np.int64)
    for label, number in pairs_2R[:, np.argsort(cells_R)].T:  # the object of most of an instance's cells comes last
        object_of[label] = number
    drawn_G = labels_to_rle(object_of[found_HW.numpy()], len(masks.objects_G))
    kept_G = [
        coco_mask.area(drawn) > 0 and mask_iou([drawn], [mask])[0, 0] >= LOWEST_IOU
        for drawn, mask in zip(drawn_G, masks.objects_G, strict=True)
    ]
    return [drawn if kept else None for drawn, kept in zip(drawn_G, kept_G, strict=True)]
