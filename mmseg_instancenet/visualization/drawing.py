"""Drawings of inputs and outputs of a model. All images are (H, W, 3) uint8 in RGB."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.fileio import get
from scipy import ndimage

from ..structures import (
    IGNORED_CLASS,
    check_pixel_count,
    decode_image,
    decode_tiff,
    is_tiff,
    normalize_percentiles,
)

_IGNORED_COLOR = (128, 128, 128)
_CHANNELS = [1, 2, 0]
"""Channel of an RGB image for each principal direction."""
_SCORE_SIZE = 0.35
"""Of the digits of a score, in units of OpenCV's font: about 20 x 8 pixels."""


def distinct_color(index: int) -> tuple[int, int, int]:
    """Colour number ``index`` of an endless sequence; neighbours in it differ strongly (golden-ratio steps in hue)."""
    hue = (index * 0.61803398875) % 1
    saturation, value = (0.9, 0.65, 1.0)[index % 3], (1.0, 0.95, 0.8)[index // 3 % 3]
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def embeddings_to_color(
    embeddings_Dhw: np.ndarray, foreground_hw: np.ndarray | None = None, reference_Dhw: np.ndarray | None = None
) -> np.ndarray:
    """The first three principal directions of an embedding map as green, blue and red: similar colours mean near
    embeddings, not equal ones.

    Green gives most of the brightness, so that the two strongest directions, brightness and blue, are seen without red-green
    vision. The directions of each map are its own: the colours of two images, or of one image at two times, cannot be
    compared. ``reference_Dhw`` makes them comparable.

    Args:
        embeddings_Dhw: (D, h, w); with D < 3 the missing channels are grey.
        foreground_hw: (h, w) bool: the pixels that give the directions and are drawn; all others are black.
        reference_Dhw: (D, h, w) map that gives directions and range of the colours in place of ``embeddings_Dhw``.

    Example:
        >>> embeddings_to_color(np.array([[[0.0, 1.0]]]))[0].tolist()  # one value: green
        [[147, 40, 147], [147, 255, 147]]
    """
    dims, height, width = embeddings_Dhw.shape
    if foreground_hw is None or not foreground_hw.any():
        foreground_hw = np.ones((height, width), bool)
    x_ND, reference_ND = (
        map_Dhw[:, foreground_hw].T.astype(np.float64)
        for map_Dhw in (embeddings_Dhw, embeddings_Dhw if reference_Dhw is None else reference_Dhw)
    )
    mean_D = reference_ND.mean(0)
    x_ND, reference_ND = x_ND - mean_D, reference_ND - mean_D
    _, directions_DD = np.linalg.eigh(reference_ND.T @ reference_ND)
    directions = directions_DD[:, ::-1][:, :3]
    # The sign of a direction is arbitrary: take the one whose largest entry is positive.
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
    low, high = np.percentile(reference_ND @ directions, (1, 99), axis=0)
    scaled = np.clip((x_ND @ directions - low) / np.maximum(high - low, 1e-12), 0, 1)
    image = np.zeros((height, width, 3), np.uint8)
    colors = np.full((len(x_ND), 3), 0.5)
    colors[:, _CHANNELS[: scaled.shape[1]]] = scaled
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
    """Reads an image file of any depth, or a TIFF of any number of channels, for display: (H, W, 3) uint8 in RGB; see
    :func:`pixels_for_display`.

    Raises:
        ValueError: if neither OpenCV nor, for a TIFF, tifffile can read the file.
    """
    content = get(path)
    check_pixel_count(content, str(path))
    image_HW3 = decode_image(content, cv2.IMREAD_COLOR)
    if image_HW3 is None and is_tiff(content):
        return pixels_for_display(np.atleast_3d(decode_tiff(content)))
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


def draw_instances(
    image_HW3: np.ndarray, instance_map_HW: np.ndarray, alpha: float = 0.55, height: int | None = None
) -> np.ndarray:
    """Draws each instance over the image in its own colour, with its outline; -1 (ignored) is grey.

    Args:
        image_HW3: (H, W, 3) uint8 in RGB.
        instance_map_HW: (H, W), 0 = none, 1 and above = instances, -1 = ignored.
        alpha: share of the colour inside of an instance.
        height: of the drawing in pixels, where it is not H. Image and map are then resized before the outlines are drawn, and a
            black line separates instances that touch, so that they can be told apart without colours.
    """
    if height is not None:
        image_HW3, instance_map_HW = _resize(image_HW3, height), _resize_map(instance_map_HW, height)
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
    if height is not None:
        _separate(result, ids)
    return result.round().astype(np.uint8)


def _resize(image_HW3: np.ndarray, height: int) -> np.ndarray:
    """An image at another height; pixels are repeated or averaged."""
    scale = height / image_HW3.shape[0]
    size = (max(1, round(image_HW3.shape[1] * scale)), height)
    return cv2.resize(image_HW3, size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)


def _resize_map(instance_map_HW: np.ndarray, height: int) -> np.ndarray:
    """An instance map at another height; OpenCV resizes no int64, and float64 holds every number of an instance."""
    size = (max(1, round(instance_map_HW.shape[1] * height / instance_map_HW.shape[0])), height)
    return cv2.resize(instance_map_HW.astype(np.float64), size, interpolation=cv2.INTER_NEAREST).astype(np.int64)


def _separate(image_HW3: np.ndarray, ids_HW: np.ndarray) -> None:
    """Makes a pixel black if the next one on the right or below belongs to another instance, in place."""
    for axis in (0, 1):
        first_HW, second_HW = (ids_HW.take(range(start, ids_HW.shape[axis] - 1 + start), axis) for start in (0, 1))
        between_HW = (first_HW != second_HW) & (first_HW > 0) & (second_HW > 0)
        image_HW3[: between_HW.shape[0], : between_HW.shape[1]][between_HW] = 0


def draw_scores(instance_map_HW: np.ndarray, scores_K: np.ndarray, height: int = 256) -> np.ndarray:
    """Draws each instance in a grey that grows with its score, black between instances, and the score where it has room.

    The greys run from 60 for a score of 0 to 255 for a score of 1; the background is black. A black line separates instances that
    touch. Two digits of the score are written where an object is widest, if its bounding box has room for them.

    Args:
        instance_map_HW: (H, W), 0 = none, k = the k-th instance.
        scores_K: of the instances, clipped to 0 .. 1; NaN counts as 0.
        height: of the drawing in pixels.

    Returns:
        (height, width, 3) uint8, of the shape of the map.

    Example:
        >>> ids = np.array([[0, 1, 2]])
        >>> draw_scores(ids, np.array([0.0, 1.0]), height=2)[0, :, 0].tolist()
        [0, 0, 60, 0, 255, 255]
    """
    ids_HW = _resize_map(instance_map_HW.clip(0), height)
    scores_K = np.nan_to_num(np.asarray(scores_K, np.float64), nan=0).clip(0, 1)
    greys = np.concatenate([[0], 60 + 195 * scores_K]).round().astype(np.uint8)
    image_HW3 = np.repeat(greys[ids_HW][..., None], 3, axis=2)
    _separate(image_HW3, ids_HW)
    for index, box in enumerate(ndimage.find_objects(ids_HW, len(scores_K))):
        if box is not None:
            text = f'{scores_K[index]:.2f}'.removeprefix('0')
            _write_inside(image_HW3[box], ids_HW[box] == index + 1, text, int(greys[index + 1]))
    return image_HW3


def _write_inside(image_HW3: np.ndarray, mask_HW: np.ndarray, text: str, grey: int) -> None:
    """Writes a text where an object is widest, in place: in black or white, whichever differs more from its grey, outlined in
    that grey. An image, the object's bounding box, that is smaller than the text stays as it is."""
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _SCORE_SIZE, 1)
    if image_HW3.shape[0] < height + 4 or image_HW3.shape[1] < width + 4:
        return
    inside_HW = cv2.distanceTransform(np.pad(mask_HW, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(inside_HW.argmax(), inside_HW.shape)
    left = min(max(int(column) - width // 2, 2), image_HW3.shape[1] - width - 2)
    bottom = min(max(int(row) + height // 2, height + 2), image_HW3.shape[0] - 2)
    # OpenCV writes into an array of its own layout alone.
    written = np.ascontiguousarray(image_HW3)
    for color, thickness in ((grey, 3), (0 if grey > 127 else 255, 1)):
        cv2.putText(
            written, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, _SCORE_SIZE, (color,) * 3, thickness, cv2.LINE_AA
        )
    image_HW3[:] = written


def panel(images: Sequence[np.ndarray], titles: Sequence[str], height: int = 256) -> np.ndarray:
    """Places images side by side at one height, each under its title."""
    columns = []
    for image, title in zip(images, titles, strict=True):
        image = _resize(image, height)
        header = np.full((24, image.shape[1], 3), 255, np.uint8)
        cv2.putText(header, title, (3, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.vstack([header, image]))
        columns.append(np.full((height + 24, 4, 3), 255, np.uint8))
    return np.hstack(columns[:-1])
