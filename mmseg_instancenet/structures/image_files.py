"""Decoding of image files with all bits of their values."""

import math
from io import BytesIO
from typing import BinaryIO

import cv2
import numpy as np
import tifffile  # scikit-image requires it

from .image_headers import PIXEL_LIMIT, is_tiff, max_pixels
from .tiff_damage import is_damaged_tiff

_ORIENTATION = 274
_EXTRA_SAMPLES = 338
"""Numbers of tags of TIFF."""


def decode_image(content: bytes, form: int) -> np.ndarray | None:
    """Decodes an image file by OpenCV; values are never cut to 8 bits.

    OpenCV alone returns nothing for grey TIFF of floating point or 32 bits unless all is left as it is. It mixes up the pixels
    of a TIFF of more than 8 bits that holds each channel in a plane of its own, multiplies the colours of a TIFF of 8 bits by its
    transparency, makes up the pixels of a TIFF that it cannot decode (:func:`is_damaged_tiff`), and some of its versions fill the
    missing part of a JPEG with grey.

    A JPEG that is damaged between its start and its end, and uncompressed pixels, have nothing by which the damage can be found.

    Args:
        content: of the file.
        form: OpenCV's ``IMREAD_COLOR`` for (H, W, 3) BGR, ``IMREAD_GRAYSCALE`` for (H, W), either with
            ``IMREAD_IGNORE_ORIENTATION``, or ``IMREAD_UNCHANGED`` for the channels of the file. Transparency is left out of the
            first two.

    Returns:
        the image, in the type that the file holds (uint8, uint16, float32, ..), or ``None`` for a file that is empty, cut off,
        damaged or no image, or has a side of more than 2^20 pixels, OpenCV's limit.

    Example:
        >>> content = cv2.imencode('.tif', np.array([[0.25, 4]], np.float32))[1].tobytes()
        >>> decode_image(content, cv2.IMREAD_COLOR).tolist()
        [[[0.25, 0.25, 0.25], [4.0, 4.0, 4.0]]]
        >>> decode_image(content[:100], cv2.IMREAD_COLOR)
    """
    if not content or _is_cut_off(content) or (is_tiff(content) and is_damaged_tiff(content)):
        return None
    try:
        return _decode(content, form)
    except cv2.error:  # sizes in the header that no image has
        return None


def _decode(content: bytes, form: int) -> np.ndarray | None:
    if is_tiff(content):
        content = _with_plain_alpha(content)
    data = np.frombuffer(content, np.uint8)
    if is_tiff(content) and _has_deep_planes(content):
        planes = _join_planes(content)
        return planes if planes is None or form == cv2.IMREAD_UNCHANGED else _in_form(planes, form)
    if form == cv2.IMREAD_UNCHANGED:
        return cv2.imdecode(data, form)
    if is_tiff(content):
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype.itemsize > 2:
            return None if image is None else _in_form(image, form)
    return cv2.imdecode(data, form | cv2.IMREAD_ANYDEPTH)


def decode_tiff(content: bytes) -> np.ndarray:
    """Decodes a TIFF of any number of channels by tifffile: (H, W), or (H, W, channels) wherever the file has them.

    The channels are the axis that the file calls channels or samples; of several pages without a name of their axis, as
    ``tifffile.imwrite`` writes an array, the shorter one of the first and the last.

    Raises:
        ValueError: for a file of several planes or times, of a compression for which tifffile needs the package imagecodecs, or
            of more than four values for each of :func:`max_pixels` pixels.

    Example:
        >>> file = BytesIO()
        >>> tifffile.imwrite(file, np.zeros((5, 40, 30), np.uint16))
        >>> decode_tiff(file.getvalue()).shape
        (40, 30, 5)
    """
    with tifffile.TiffFile(BytesIO(content)) as file:
        shape, channel = _layout(file.series[0])
        if math.prod(shape) > 4 * max_pixels():
            raise ValueError(
                f'expected at most four values for each of {max_pixels():,} pixels, got the shape {tuple(shape)}: raise the '
                f'limit by the environment variable {PIXEL_LIMIT}'
            )
        values = file.series[0].asarray().reshape(shape)
    return values if channel is None else np.moveaxis(values, channel, -1)


def tiff_sizes(file: BinaryIO) -> list[tuple[int, int]]:
    """The sizes (height, width) that a TIFF may have when it is loaded, by its tags; two where an orientation swaps the sides.

    Raises:
        ValueError: see :func:`decode_tiff`; for damaged files tifffile raises others.
    """
    with tifffile.TiffFile(file) as tiff:
        shape, channel = _layout(tiff.series[0])
        orientation = tiff.pages.first.tags.get(_ORIENTATION)
    height, width = (length for axis, length in enumerate(shape) if axis != channel)
    turned = orientation is not None and orientation.value > 4
    return [(height, width), (width, height)] if turned else [(height, width)]


def _layout(series: tifffile.TiffPageSeries) -> tuple[list[int], int | None]:
    """The shape of an image, two or three axes, and which of them are the channels."""
    kept = [
        (name, length) for name, length in zip(series.axes, series.shape, strict=True) if length > 1 or name in 'YX'
    ]
    names, shape = ''.join(name for name, _ in kept), [length for _, length in kept]
    if names == 'YX':
        return shape, None
    for channel in 'CS':
        if len(names) == 3 and channel in names:
            return shape, names.index(channel)
    if len(names) == 3 and names[0] in 'QI':
        return shape, 0 if shape[0] <= shape[2] else 2
    raise ValueError(
        f'expected one plane with its channels, got the axes {series.axes} of {series.shape}: write each plane or time to a file '
        'of its own'
    )


def _has_deep_planes(content: bytes) -> bool:
    """Whether a TIFF has a plane for each of red, green and blue, of more than 8 bits."""
    try:
        with tifffile.TiffFile(BytesIO(content)) as file:
            page = file.pages.first
            return (
                page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
                and page.photometric == tifffile.PHOTOMETRIC.RGB
                and page.samplesperpixel >= 3
                and page.dtype is not None
                and page.dtype.itemsize > 1
            )
    except Exception:  # damaged in one of many ways; OpenCV then refuses it
        return False


def _with_plain_alpha(content: bytes) -> bytes:
    """A TIFF whose fourth channel of 8 bits is called anything, and no longer transparency.

    OpenCV would multiply the colours by the transparency, for 8 bits and not for 16.
    """
    try:
        with tifffile.TiffFile(BytesIO(content)) as file:
            page = file.pages.first
            tag = page.tags.get(_EXTRA_SAMPLES)
            if tag is None or page.extrasamples != (tifffile.EXTRASAMPLE.UNASSALPHA,) or page.bitspersample != 8:
                return content
            return content[: tag.valueoffset] + b'\0\0' + content[tag.valueoffset + 2 :]
    except Exception:  # damaged in one of many ways
        return content


def _join_planes(content: bytes) -> np.ndarray | None:
    """The first page of a TIFF of planes, (H, W, C) in BGR order, or ``None`` where it is damaged."""
    try:
        planes_CHW = tifffile.imread(BytesIO(content), key=0)
    except Exception:
        return None
    return np.ascontiguousarray(planes_CHW[[2, 1, 0, *range(3, len(planes_CHW))]].transpose(1, 2, 0))


def _in_form(image: np.ndarray, form: int) -> np.ndarray:
    """Converts a decoded image, (H, W), (H, W, 3) or (H, W, 4), to grey or BGR."""
    image = image[..., :3] if image.ndim == 3 else image
    if form & cv2.IMREAD_COLOR:
        return image if image.ndim == 3 else np.stack([image] * 3, axis=2)
    return image if image.ndim == 2 else (image @ (0.114, 0.587, 0.299)).astype(image.dtype)


def _is_cut_off(content: bytes) -> bool:
    """Whether a JPEG ends before its end marker."""
    position = 2
    if content[:position] != b'\xff\xd8':
        return False
    while content[position : position + 2] != b'\xff\xda':  # segments, each with its length, come before the pixels
        if position + 4 > len(content):
            return True
        position += 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    return content.find(b'\xff\xd9', position) < 0
