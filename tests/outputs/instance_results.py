"""Results of masks, for the tests of what is written of them."""

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import gaussian_filter

from mmseg_instancenet.outputs import InstanceResult
from mmseg_instancenet.structures import RunLengthMasks


def result_of(masks_KHW: np.ndarray, class_names=('cat', 'dog'), path=None) -> InstanceResult:
    """Instances with these masks; where they overlap, the first one is on top. Classes 1, 0, 1, .., scores .9, .45, .3, .."""
    count, *size = masks_KHW.shape
    masks = masks_KHW.astype(np.uint8)
    boxes = np.zeros((count, 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = mask.nonzero()
        box[:] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return InstanceResult(
        labels=np.where(masks.any(0), masks.argmax(0) + 1, 0).astype(np.int32) if count else np.zeros(size, np.int32),
        class_indices=(np.arange(count) + 1) % len(class_names),
        scores=(0.9 / (np.arange(count) + 1)).astype(np.float32),
        boxes=boxes,
        masks=RunLengthMasks([coco_mask.encode(np.asfortranarray(mask)) for mask in masks], tuple(size)),
        class_names=tuple(class_names),
        path=path,
    )


def ragged_masks(seed: int, count: int = 6, height: int = 33, width: int = 40) -> np.ndarray:
    """Masks in pieces, with holes, with pixels that touch at a corner alone, and overlapping; the first one is a single pixel."""
    rng = np.random.default_rng(seed)
    masks = np.array(
        [
            gaussian_filter(rng.random((height, width)), rng.uniform(0.3, 3)) > rng.uniform(0.48, 0.55)
            for _ in range(count)
        ]
    )
    masks[0] = False
    masks[0, rng.integers(height), rng.integers(width)] = True
    masks[1:, height // 2, width // 2] = True
    return masks
