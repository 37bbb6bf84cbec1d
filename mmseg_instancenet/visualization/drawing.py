"""Drawings of inputs and outputs of a model. All images are (H, W, 3) uint8 in RGB."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.fileio import get

from ..structures import IGNORED_CLASS, decode_image, normalize_percentiles

_IGNORED_COLOR = (128, 128, 128)


def distinct_color(index: int) -> tuple[int, int, int]:
    """Colour number ``index`` of an endless sequence; neighbours in it differ strongly (golden-ratio steps in hue)."""
    hue = (index * 0.61803398875) % 1
    saturation, value = (0.9, 0.65, 1.0)[index % 3], (1.0, 0.95, 0.8)[index // 3 % 3]
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def embeddings_to_color(embeddings_Dhw: np.ndarray, foreground_hw: np.ndarray | None = None) -> np.ndarray:
    """The three principal directions of an embedding map as red, green and blue: similar colours mean near embeddings,
    not equal ones.

    Args:
        embeddings_Dhw: (D, h, w); with D < 3 the missing channels are grey.
        foreground_hw: (h, w) bool: the pixels that give the directions and are drawn; all others are black.
    """
    dims, height, width = embeddings_Dhw.shape
    if foreground_hw is None or not foreground_hw.any():
        foreground_hw = np.ones((height, width), bool)
    x_ND = embeddings_Dhw[:, foreground_hw].T.astype(np.float64)
    x_ND = x_ND - x_ND.mean(0)
    _, directions_DD = np.linalg.eigh(x_ND.T @ x_ND)
    directions = directions_DD[:, ::-1][:, :3]
    # The sign of a direction is arbitrary: take the one whose largest entry is positive.
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
    projected = x_ND @ directions
    low, high = np.percentile(projected, 1, axis=0), np.percentile(projected, 99, axis=0)
    scaled = np.clip((projected - low) / np.maximum(high - low, 1e-12), 0, 1)
    image = np.zeros((height, width, 3), np.uint8)
    colors = np.full((len(x_ND), 3), 0.5)
    colors[:, : scaled.shape[1]] = scaled
    image[foreground_hw] = (40 + 215 * colors).astype(np.uint8)
    return image


def class_map_to_color(class_map_HW: np.ndarray, palette: Sequence[Sequence[int]] | None = None) -> np.ndarray:
    """Colours a class map: background black, class k + 1 in the palette's k-th colour, ignored pixels grey."""
    count = max(int(class_map_HW.max()), IGNORED_CLASS) + 1
    table = np.zeros((count, 3), np.uint8)
    for index in range(count - 1):
        table[index + 1] = palette[index] if palette and index < len(palette) else distinct_color(index)
    table[IGNORED_CLASS] = _IGNORED_COLOR
    return table[class_map_HW]


def read_for_display(path: str | Path) -> np.ndarray:
    """Reads an image file of any depth for display: (H, W, 3) uint8 in RGB; see :func:`pixels_for_display`.

    Raises:
        ValueError: if OpenCV cannot read the file.
    """
    image_HW3 = decode_image(get(path), cv2.IMREAD_COLOR)
    if image_HW3 is None:
        raise ValueError(f'expected an image that OpenCV can read, got {path}: save it as PNG or TIFF')
    return pixels_for_display(image_HW3[..., ::-1])


def pixels_for_display(pixels_HWC: np.ndarray) -> np.ndarray:
    """The pixels of an image with a contrast for the eye: (H, W, 3) uint8 in RGB.

    Images of more than 8 bits, and those whose brightest pixels (99.8 %) stay below half of the range, are stretched as
    :func:`normalize_percentiles` does it: microscopes use a small part of the range. Others stay as they are.

    Args:
        pixels_HWC: (H, W, C) of any depth. One channel is grey; of two the third colour is black; of more than three the first
            three are taken.

    Raises:
        ValueError: if there is no pixel, or floating point with NaN or infinity.

    Example:
        >>> pixels_for_display(np.array([[[0], [200]]], np.uint8)).tolist()
        [[[0, 0, 0], [200, 200, 200]]]
    """
    channels = pixels_HWC.shape[2]
    image_HW3 = np.repeat(pixels_HWC, 3, axis=2) if channels == 1 else pixels_HWC[..., :3]
    if channels == 2:
        image_HW3 = np.concatenate([image_HW3, np.zeros_like(image_HW3[..., :1])], axis=2)
    if image_HW3.dtype != np.uint8 or np.percentile(image_HW3, 99.8) < 128:
        image_HW3 = (255 * normalize_percentiles(image_HW3)).round().astype(np.uint8)
    return np.ascontiguousarray(image_HW3)


def draw_instances(image_HW3: np.ndarray, instance_map_HW: np.ndarray, alpha: float = 0.55) -> np.ndarray:
    """Draws each instance over the image in its own colour, with its outline; -1 (ignored) is grey."""
    result = image_HW3.astype(np.float32)
    ids = instance_map_HW.astype(np.int64)
    colors = np.array([(0, 0, 0), *(distinct_color(index) for index in range(max(int(ids.max()), 0)))], np.float32)
    inside = ids > 0
    result[inside] = (1 - alpha) * result[inside] + alpha * colors[ids[inside]]
    result[ids < 0] = 0.5 * result[ids < 0] + 0.5 * np.array(_IGNORED_COLOR)
    # A pixel is on the outline if a neighbour has another label.
    edge = np.zeros_like(inside)
    for axis in (0, 1):
        differs = np.diff(ids, axis=axis) != 0
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        edge[tuple(first)] |= differs
        edge[tuple(second)] |= differs
    edge &= inside
    result[edge] = colors[ids[edge]]
    return result.round().astype(np.uint8)


def panel(images: Sequence[np.ndarray], titles: Sequence[str], height: int = 256) -> np.ndarray:
    """Places images side by side at one height, each under its title."""
    columns = []
    for image, title in zip(images, titles, strict=True):
        scale = height / image.shape[0]
        size = (max(1, round(image.shape[1] * scale)), height)
        image = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)
        header = np.full((24, image.shape[1], 3), 255, np.uint8)
        cv2.putText(header, title, (3, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.vstack([header, image]))
        columns.append(np.full((height + 24, 4, 3), 255, np.uint8))
    return np.hstack(columns[:-1])
