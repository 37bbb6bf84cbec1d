"""Parts of an image around some of its objects."""

from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .drawing import draw_instances, panel

_MARGIN = 16
"""Pixels, at least, around the part that is looked at."""


def draw_crop(
    image_HW3: np.ndarray, maps: dict[str, np.ndarray], box: tuple[int, int, int, int], height: int = 256
) -> np.ndarray:
    """A part of an image beside the same part of its instance maps, with a frame around the place that is meant: RGB.

    The part is a square with the frame in its middle, which reaches beyond the frame's longer side by half of it and 16 pixels at
    least. At the border of the image it is moved inside; of an image that is smaller it is the whole height or width.

    Args:
        image_HW3: (H, W, 3) uint8 in RGB.
        maps: instance maps (H, W) by title; 0 = none, -1 = ignored; see :func:`draw_instances`.
        box: (left, top, right, bottom) of the frame in pixels, right and bottom exclusive.
        height: of the drawing in pixels, without the line of the titles.

    Example:
        >>> draw_crop(np.zeros((90, 90, 3), np.uint8), {'truth': np.ones((90, 90), int)}, (20, 10, 30, 20), height=84).shape
        (108, 172, 3)
    """
    left, top, right, bottom = box
    rows, columns = crop_window(box, image_HW3.shape)
    parts: Sequence[np.ndarray] = [
        image_HW3[rows, columns],
        *(draw_instances(image_HW3[rows, columns], map_HW[rows, columns]) for map_HW in maps.values()),
    ]
    framed = []
    for part in parts:
        scale = height / part.shape[0]
        size = (max(1, round(part.shape[1] * scale)), height)
        large = cv2.resize(part, size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)
        first, last = (
            (round((x - columns.start) * scale), round((y - rows.start) * scale))
            for x, y in ((left, top), (right, bottom))
        )
        cv2.rectangle(large, first, last, (0, 0, 0), 3)  # a white line alone is lost on a bright image
        framed.append(cv2.rectangle(large, first, last, (255, 255, 255), 1))
    return panel(framed, ['input', *maps], height)


def crop_window(box: tuple[int, int, int, int], shape: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of the part of an image that :func:`draw_crop` shows.

    Args:
        box: (left, top, right, bottom) of the frame.
        shape: of the image, (H, W, ..).

    Example:
        >>> crop_window((20, 10, 30, 20), (90, 90))
        (slice(0, 42, None), slice(4, 46, None))
    """
    left, top, right, bottom = box
    longer = max(right - left, bottom - top)
    side = longer + 2 * max(_MARGIN, longer // 2)
    return _window(top, bottom, side, shape[0]), _window(left, right, side, shape[1])


def box_around(masks: Sequence[dict]) -> tuple[int, int, int, int]:
    """The box around run-length encoded masks: (left, top, right, bottom), right and bottom exclusive.

    Example:
        >>> box_around([coco_mask.encode(np.asfortranarray([[0, 1, 1], [0, 0, 0]], np.uint8))])
        (1, 0, 3, 1)
    """
    box_M4 = np.array([coco_mask.toBbox(mask) for mask in masks])
    left, top = box_M4[:, :2].min(0).astype(int).tolist()
    right, bottom = (box_M4[:, :2] + box_M4[:, 2:]).max(0).astype(int).tolist()
    return left, top, right, bottom


def _window(start: int, stop: int, side: int, length: int) -> slice:
    """``side`` pixels around start .. stop, moved into an axis of ``length`` pixels."""
    side = min(side, length)
    first = min(max((start + stop - side) // 2, 0), length - side)
    return slice(first, first + side)
