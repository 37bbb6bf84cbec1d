"""The pixels of an image file with all its channels and bits, for measurements and drawings."""

import io
from pathlib import Path

import cv2
import numpy as np
import tifffile
from mmengine.fileio import get

from ..structures import check_pixel_count, decode_image, is_tiff

_AS_STORED: tuple[int, ...] = (
    tifffile.PHOTOMETRIC.MINISWHITE,
    tifffile.PHOTOMETRIC.MINISBLACK,
    tifffile.PHOTOMETRIC.RGB,
)
"""Kinds of TIFF whose numbers are the measurements."""


def read_pixels(path: str | Path) -> np.ndarray:
    """Reads an image file with the values and channels that it has.

    Colour is in the order red, green, blue. The orientation that a camera wrote into the file is applied, and a palette or CMYK
    is converted to colours, as in the images that a network gets. Transparency is left out, except for TIFF, whose fourth channel
    may be one of measurement. Of a TIFF with several pages the first one is read.

    Returns:
        (H, W, C) in the type of the file; C is 1 for grey.

    Raises:
        ValueError: if neither OpenCV nor, for TIFF, tifffile reads the file, or it has more pixels than the limit
            (:func:`check_pixel_count`).
        OSError: if the file is not there or cannot be opened.

    Example:
        >>> import tempfile
        >>> path = f'{tempfile.mkdtemp()}/image.png'
        >>> cv2.imwrite(path, np.array([[[3, 2, 1]]], np.uint16))  # OpenCV takes blue, green, red
        True
        >>> read_pixels(path).tolist(), read_pixels(path).dtype
        ([[[1, 2, 3]]], dtype('uint16'))
    """
    content = get(path)
    check_pixel_count(content, str(path))
    image = None
    if is_tiff(content):
        image = _read_tiff(content)
        if image is None:
            image = _in_rgb(decode_image(content, cv2.IMREAD_UNCHANGED))
            image = image[..., :3] if image is not None and image.ndim == 3 and _is_cmyk(content) else image
    else:
        image = _in_rgb(decode_image(content, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH))
    if image is None:
        raise ValueError(
            f'{path}: expected an image that OpenCV reads, or a TIFF that tifffile reads, got {len(content)} bytes: the file is '
            'cut off, damaged or no image, or has a side of more than 2^20 pixels'
        )
    return np.atleast_3d(image)


def _read_tiff(content: bytes) -> np.ndarray | None:
    """tifffile reads any number of channels, but not every compression; OpenCV takes two channels for one."""
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            turned = page.tags.valueof('Orientation', 1) != 1
            if turned or page.photometric not in _AS_STORED:
                return None  # a palette, CMYK, ..: tifffile gives the numbers of the file, OpenCV the colours
            image = page.asarray()
            image = np.moveaxis(image, 0, -1) if page.axes == 'SYX' else image
    except Exception:  # it has several kinds of its own
        return None
    return image.astype(np.uint8) * 255 if image.dtype == bool else image


def _is_cmyk(content: bytes) -> bool:
    """OpenCV adds a channel of transparency to the colours of CMYK."""
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            return file.pages.first.photometric == tifffile.PHOTOMETRIC.SEPARATED
    except Exception:  # it has several kinds of its own
        return False


def _in_rgb(image: np.ndarray | None) -> np.ndarray | None:
    if image is None or image.ndim == 2:
        return image
    return image[..., [2, 1, 0, *range(3, image.shape[2])]]
