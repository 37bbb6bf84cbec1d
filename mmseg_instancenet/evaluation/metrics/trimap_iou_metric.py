"""Trimap mIoU: mIoU near the boundaries of the ground truth, as a function of the distance."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.registry import METRICS

from ...structures import IGNORED_CLASS


def boundary_distance(class_map_HW: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest boundary of a class map, in pixels.

    A labelled pixel that touches (above, below, left or right) a pixel of another class, or a void one, has distance 1; any
    other labelled pixel 1 + the Euclidean distance to the nearest of these; void pixels and, where there is no boundary,
    all pixels have infinity. Void counts as another class because VOC's void *is* the boundary, drawn about five pixels
    wide: the distance is then measured from the border of the void. (The paper does not define this case.)

    Args:
        class_map_HW: (H, W) integers, 255 = void.

    Returns:
        (H, W) float32, at least 1.

    Example:
        >>> boundary_distance(np.array([[0, 0, 0, 255, 7, 7]]))
        array([[ 3.,  2.,  1., inf,  1.,  2.]], dtype=float32)
    """
    touches = np.zeros(class_map_HW.shape, bool)
    down = class_map_HW[1:] != class_map_HW[:-1]
    across = class_map_HW[:, 1:] != class_map_HW[:, :-1]
    touches[1:] |= down
    touches[:-1] |= down
    touches[:, 1:] |= across
    touches[:, :-1] |= across
    void = class_map_HW == IGNORED_CLASS
    touches &= ~void
    if not touches.any():
        return np.full(class_map_HW.shape, np.inf, np.float32)
    distance = 1 + cv2.distanceTransform((~touches).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance[void] = np.inf
    return distance


def band_counts(predicted_HW: np.ndarray, true_HW: np.ndarray, num_classes: int, max_width: int) -> np.ndarray:
    """Counts the pixels of each class within each width of a boundary of the ground truth, without void.

    Args:
        predicted_HW: (H, W) classes; those of void pixels are not read.
        true_HW: (H, W) classes, 255 = void.
        num_classes: C, background included.
        max_width: W, pixels.

    Returns:
        (3, W, C) int64: pixels that are of the class in both maps, in the predicted, in the true one, at a distance
        (see :func:`boundary_distance`) of at most 1, 2, .. W.

    Raises:
        ValueError: if the maps differ in shape, or a class is not below ``num_classes``.
    """
    if predicted_HW.shape != true_HW.shape:
        raise ValueError(
            f'expected pred_sem_seg of the size {true_HW.shape} of gt_sem_seg, got {predicted_HW.shape}; put '
            'LoadInstanceMasks after the resize in the test pipeline'
        )
    distance_HW = boundary_distance(true_HW)
    inside = distance_HW <= max_width
    ring_P = np.ceil(distance_HW[inside]).astype(np.int64) - 1
    predicted_P, true_P = predicted_HW[inside].astype(np.int64), true_HW[inside].astype(np.int64)
    for name, class_P in (('predicted', predicted_P), ('true', true_P)):
        if len(class_P) and not 0 <= class_P.min() <= class_P.max() < num_classes:
            raise ValueError(
                f'expected {name} classes 0 .. {num_classes - 1}, got {class_P.min()} .. {class_P.max()}; the data set has '
                f'{num_classes - 1} classes and the background'
            )
    agree_P = predicted_P == true_P
    counts = [
        np.bincount(ring * num_classes + class_, minlength=max_width * num_classes).reshape(max_width, num_classes)
        for ring, class_ in ((ring_P[agree_P], true_P[agree_P]), (ring_P, predicted_P), (ring_P, true_P))
    ]
    return np.stack(counts).cumsum(1)


def mean_iou(counts_3WC: np.ndarray) -> np.ndarray:
    """mIoU in percent for each width, (W,): the mean over the classes within that width, NaN if there are none."""
    both_WC, predicted_WC, true_WC = counts_3WC
    union_WC = predicted_WC + true_WC - both_WC
    iou_WC = np.where(union_WC > 0, both_WC / np.maximum(union_WC, 1), 0)
    present_W = (union_WC > 0).sum(1)
    return np.where(present_W > 0, 100 * iou_WC.sum(1) / np.maximum(present_W, 1), np.nan)


@METRICS.register_module()
class TrimapIoUMetric(BaseMetric):
    """mIoU (percent) of the pixels within 1, 2, .. ``max_width`` pixels of a boundary of the ground truth.

    As Kong & Fowlkes (2018, figure 9): a narrow band shows how sharp the boundaries are, a wide one approaches the mIoU.
    :func:`boundary_distance` defines the boundary and the treatment of void. A width counts the pixels on each side. Class maps
    are those of :class:`ForegroundIoUMetric`: 0 is the background, class k of the data set is k + 1. Pixels of all
    images are counted together, classes that occur at no pixel of a band are left out of its mean.

    Memory: 12 bytes for each image, width and class until the metrics are made.

    Args:
        max_width: the widest band, pixels.
        reported: widths that get a key of their own, ``trimap/mIoU_5`` for 5. ``trimap/curve`` has all widths; a test writes it
            into its json file, from which ``tools/analysis/plot_curves.py`` draws it.
        collect_device, prefix: those of MMEngine's ``BaseMetric``.
    """

    default_prefix = 'trimap'

    def __init__(
        self,
        max_width: int = 40,
        reported: Sequence[int] = (1, 5, 10, 20, 40),
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if max_width < 1 or not all(1 <= width <= max_width for width in reported):
            raise ValueError(f'expected 1 <= reported widths <= max_width, got {list(reported)} and {max_width}')
        self.max_width, self.reported = max_width, tuple(reported)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        num_classes = len(self.dataset_meta['classes']) + 1
        for sample in data_samples:
            predicted, true = (sample[key]['data'][0].cpu().numpy() for key in ('pred_sem_seg', 'gt_sem_seg'))
            self.results.append(band_counts(predicted, true, num_classes, self.max_width).astype(np.int32))

    def compute_metrics(self, results: list) -> dict[str, float | dict]:
        nothing_3WC = np.zeros((3, self.max_width, 1), np.int64)
        iou_W = mean_iou(np.asarray(results).sum(axis=0, dtype=np.int64) if results else nothing_3WC).round(2)
        if np.isnan(iou_W).all():
            MMLogger.get_current_instance().warning(
                f'{len(results)} images were evaluated, and none has a boundary between classes: the trimap mIoU is NaN'
            )
        metrics = {f'mIoU_{width}': float(iou_W[width - 1]) for width in self.reported}
        widths = list(range(1, self.max_width + 1))
        # Last, since save_best='auto' takes the first.
        return {**metrics, 'curve': {'pixels on each side of a boundary': widths, 'mIoU, %': iou_W.tolist()}}
