"""Pools groups at several bandwidths into one ranked list of object proposals."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask


def pool_proposals(
    masks_M: Sequence[dict], score_M: np.ndarray, source_M: np.ndarray, duplicate_iou: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Ranks the masks of several groupings of one image and drops near-duplicates.

    An object stays one group while the bandwidth changes. The rank of mask m is therefore

    .. math:: r_m = g_m \cdot \frac1B \sum_{b=1}^B \max_{j \in b} \mathrm{IoU}(m, j)

    with g its own score and B the number of groupings: its score times its stability, the mean over the groupings of how
    well their best mask agrees with it, 1 where every grouping found this very mask. In the order of falling rank (among
    equals the earlier one first) a mask is left out that overlaps one already taken with more than ``duplicate_iou``.

    Time and memory: M^2 values; ``max_instances`` of the groupers bounds M.

    Args:
        masks_M: run-length encoded masks of one size.
        score_M: (M,) g.
        source_M: (M,) integers, the grouping that each mask comes from; B counts those that found a mask.
        duplicate_iou: in (0, 1).

    Returns:
        (K,) indices of the masks that stay, in order of falling rank, and their ranks (K,).

    Raises:
        ValueError: if ``duplicate_iou`` is not in (0, 1).

    Example:
        >>> rows = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]]
        >>> masks = [coco_mask.encode(np.asfortranarray([row], np.uint8)) for row in rows]
        >>> pool_proposals(masks, np.array([0.8, 0.8, 0.8, 0.8]), np.array([0, 1, 2, 1]), duplicate_iou=0.9)
        (array([0, 1, 3]), array([0.73333333, 0.66666667, 0.4       ]))
    """
    if not 0 < duplicate_iou < 1:
        raise ValueError(f'expected duplicate_iou in (0, 1), got {duplicate_iou}')
    if not masks_M:
        return np.zeros(0, int), np.zeros(0)
    iou_MM = coco_mask.iou(list(masks_M), list(masks_M), [0] * len(masks_M))
    best_BM = np.stack([iou_MM[:, source_M == source].max(1) for source in np.unique(source_M)])
    rank_M = score_M * best_BM.mean(0)
    kept: list[int] = []
    for index in np.argsort(-rank_M, kind='stable').tolist():
        if not kept or iou_MM[index, kept].max() <= duplicate_iou:
            kept.append(index)
    return np.array(kept), rank_M[kept]
