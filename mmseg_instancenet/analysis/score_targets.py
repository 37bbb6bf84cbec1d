"""Target values for fitting the scores of instances."""

import numpy as np

from ..evaluation.functional.label_overlap import label_overlap


def best_iou_of_class(
    labels_HW: np.ndarray, class_K: np.ndarray, instance_map_HW: np.ndarray, class_map_HW: np.ndarray
) -> np.ndarray:
    """IoU of each predicted instance with the object of its class that it overlaps most.

    Args:
        labels_HW: (H, W) predicted instances 1 .. K, 0 = none.
        class_K: (K,) class of each, from 1 as in the class map.
        instance_map_HW: (H, W) objects of the ground truth, 0 = background, -1 = ignored; ignored pixels are not counted.
        class_map_HW: (H, W) classes of the ground truth, one for the whole of an object.

    Returns:
        (K,) float64; 0 where no object of its class overlaps it, NaN where all its pixels are ignored.

    Example:
        >>> labels, objects = np.array([[1, 1, 2, 3]]), np.array([[7, 7, 7, -1]])
        >>> best_iou_of_class(labels, np.array([4, 5, 4]), objects, np.array([[4, 4, 4, 255]]))
        array([0.66666667, 0.        ,        nan])
    """
    overlap = label_overlap(instance_map_HW, labels_HW)
    truths, first = np.unique(instance_map_HW, return_index=True)
    class_G = class_map_HW.reshape(-1)[first[truths > 0]]
    seen = np.unique(labels_HW[(instance_map_HW >= 0) & (labels_HW > 0)]) - 1
    prediction_Q = seen[overlap.prediction_Q]
    same_Q = class_G[overlap.truth_Q] == class_K[prediction_Q]
    best_K = np.full(len(class_K), np.nan)
    best_K[seen] = 0
    np.maximum.at(best_K, prediction_Q[same_Q], overlap.iou_Q[same_Q])
    return best_K
