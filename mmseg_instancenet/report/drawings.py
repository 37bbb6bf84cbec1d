"""The drawings of images in a report, bounded in number and size."""

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from ..evaluation.functional.budget_corrections import Fault
from ..evaluation.metrics.mask_metric import ImageMasks, predicted_map, truth_maps
from ..visualization import box_around, crop_window, draw_crop, draw_instances, panel, read_for_display

IMAGES = 4
"""Best images that are drawn, and worst."""

CROPS = 8
"""Errors of each kind that are drawn."""

IMAGE_PIXELS, CROP_PIXELS = 300_000, 110_000
"""Of a drawing of an image and of one of an error, at most. At a byte a pixel, all drawings and plots of a report take less than
10 MB in base64."""

_WIDTH, _IMAGE_HEIGHT, _CROP_HEIGHT = 300, 240, 160
"""Pixels, at most: width of each part of a drawing, heights of the parts."""


@dataclass(frozen=True)
class ReportImage:
    """An image that was tested: its file, (height, width) in pixels, and its masks.

    No named tuple: MMEngine makes plain tuples of these when it collects the results.
    """

    path: str
    size: tuple[int, int]
    masks: ImageMasks


def png_uri(image_HW3: np.ndarray, max_pixels: int) -> str:
    """An image as ``data:image/png`` of 256 colours, one byte a pixel before compression.

    Args:
        image_HW3: (H, W, 3) uint8 in RGB.
        max_pixels: a larger image is made smaller.

    Example:
        >>> png_uri(np.zeros((2, 2, 3), np.uint8), 4)[:26]
        'data:image/png;base64,iVBO'
    """
    height, width = image_HW3.shape[:2]
    if height * width > max_pixels:
        scale = (max_pixels / (height * width)) ** 0.5
        size = max(1, int(width * scale)), max(1, int(height * scale))
        image_HW3 = cv2.resize(image_HW3, size, interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(image_HW3).quantize(256).save(file, format='png', optimize=True)
    return 'data:image/png;base64,' + base64.b64encode(file.getvalue()).decode()


def draw_image(image: ReportImage) -> np.ndarray:
    """Input, objects and detections of an image side by side: (H, W, 3) uint8 in RGB."""
    pixels_HW3 = read_for_display(image.path)
    found, true = len(image.masks.masks_K), len(image.masks.objects_G)
    parts = {
        'input': pixels_HW3,
        f'ground truth ({true})': draw_instances(pixels_HW3, truth_maps(image.masks, image.size)[1]),
        f'detections ({found})': draw_instances(pixels_HW3, predicted_map(image.masks, image.size)),
    }
    return panel(list(parts.values()), list(parts), _height(image.size, _IMAGE_HEIGHT))


def draw_fault(image: ReportImage, fault: Fault) -> np.ndarray:
    """The place of an error in input, objects and detections, in a frame: (H, W, 3) uint8 in RGB."""
    box = box_around(fault.masks)
    rows, columns = crop_window(box, image.size)
    height = _height((rows.stop - rows.start, columns.stop - columns.start), _CROP_HEIGHT)
    maps = {
        'ground truth': truth_maps(image.masks, image.size)[1],
        'detections': predicted_map(image.masks, image.size),
    }
    return draw_crop(read_for_display(image.path), maps, box, height)


def short_names(paths: Sequence[str]) -> list[str]:
    """The paths below the folder that they have in common, with '/' on all systems.

    Example:
        >>> short_names(['data/a/1.png', 'data/b/1.png'])
        ['a/1.png', 'b/1.png']
    """
    if not paths:
        return []
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return [os.path.relpath(path, folder).replace(os.sep, '/') for path in paths]


def _height(size: tuple[int, int], height: int) -> int:
    """The height of a part of a drawing, less for a wide part."""
    return max(1, min(height, _WIDTH * size[0] // size[1]))
