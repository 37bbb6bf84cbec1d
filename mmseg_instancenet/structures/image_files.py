"""Decoding of image files with all bits of their values."""

from io import BytesIO

import cv2
import numpy as np
import tifffile


def decode_image(content: bytes, form: int) -> np.ndarray | None:
    """Decodes an image file by OpenCV; values are never cut to 8 bits.

    OpenCV alone returns nothing for grey TIFF of floating point or 32 bits unless all is left as it is. It mixes up the pixels
    of a TIFF of more than 8 bits that holds each channel in a plane of its own, and some of its versions fill the missing part
    of a JPEG with grey.

    Args:
        content: of the file.
        form: OpenCV's ``IMREAD_COLOR`` for (H, W, 3) BGR, ``IMREAD_GRAYSCALE`` for (H, W), either with
            ``IMREAD_IGNORE_ORIENTATION``, or ``IMREAD_UNCHANGED`` for the channels of the file. Transparency is left out of the
            first two.

    Returns:
        the image, in the type that the file holds (uint8, uint16, float32, ..), or ``None`` for a file that is empty, cut off,
        damaged or no image.

    Example:
        >>> content = cv2.imencode('.tif', np.array([[0.25, 4]], np.float32))[1].tobytes()
        >>> decode_image(content, cv2.IMREAD_COLOR).tolist()
        [[[0.25, 0.25, 0.25], [4.0, 4.0, 4.0]]]
        >>> decode_image(content[:100], cv2.IMREAD_COLOR)
    """
    if not content or _is_cut_off(content):
        return None
    data = np.frombuffer(content, np.uint8)
    is_tiff = content[:4] in (b'II*\0', b'MM\0*')
    if is_tiff and _has_deep_planes(content):
        planes = _join_planes(content)
        return planes if planes is None or form == cv2.IMREAD_UNCHANGED else _in_form(planes, form)
    if form == cv2.IMREAD_UNCHANGED:
        return cv2.imdecode(data, form)
    if is_tiff:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype.itemsize > 2:
            return None if image is None else _in_form(image, form)
    return cv2.imdecode(data, form | cv2.IMREAD_ANYDEPTH)


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
