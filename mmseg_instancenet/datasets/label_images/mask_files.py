"""Reads mask files, and the sizes of images without decoding them."""

import io
from pathlib import Path

import numpy as np
import tifffile

from ...structures import (
    TooManyPixelsError,
    check_pixel_count,
    is_damaged_png,
    is_damaged_tiff,
    is_tiff,
    open_header,
    tiff_sizes,
)
from ..annotations.image_checks import read_header

_LOSSY = ('JPEG', 'MPO', 'WEBP')
_SAMPLE_FORMAT = 339
"""Number of the tag of TIFF; 1 is unsigned, 2 signed, 3 floating point."""


class FaultyMaskError(ValueError):
    """A mask file, or the mask of an image, that cannot be used.

    Args:
        check: key of :data:`CHECKS`.
        first: the file and the fault.
    """

    def __init__(self, check: str, first: str) -> None:
        super().__init__(first)
        self.check, self.first = check, first


def read_mask(path: Path) -> np.ndarray:
    """The numbers of a mask file, (H, W) integers of the file's type: png, tif or bmp; a palette is read as numbers.

    Peak memory: the file and its pixels.

    Raises:
        FaultyMaskError: for a file that is damaged, of a lossy format, of several channels or pages, of floating point, or of
            more pixels than the limit (:func:`check_pixel_count`).
    """
    content = path.read_bytes()
    if not content:
        raise FaultyMaskError('unreadable-mask', f'{path}: 0 bytes')
    try:
        check_pixel_count(content, str(path))
    except TooManyPixelsError as error:
        raise FaultyMaskError('unreadable-mask', str(error)) from error
    values = _decode(content, path)
    if values.ndim != 2:
        raise FaultyMaskError('mask-channels', f'{path}: shape {" x ".join(map(str, values.shape))}')
    if values.dtype.kind == 'f':
        raise FaultyMaskError('float-mask', f'{path}: {values.dtype}')
    return values.astype(np.uint8) if values.dtype == bool else values


def _decode(content: bytes, path: Path) -> np.ndarray:
    if is_tiff(content):
        if is_damaged_tiff(content):
            raise FaultyMaskError('unreadable-mask', f'{path}: {len(content)} bytes, its pixels are damaged')
        try:
            with tifffile.TiffFile(io.BytesIO(content)) as file:
                shape = file.series[0].shape
                if len(shape) != 2:  # found before pages or channels of any number are decoded
                    raise FaultyMaskError('mask-channels', f'{path}: shape {" x ".join(map(str, shape))}')
                return file.series[0].asarray()
        except FaultyMaskError:
            raise
        except Exception:  # a compression that tifffile needs another package for; Pillow may read it
            pass
    if is_damaged_png(content):
        raise FaultyMaskError('unreadable-mask', f'{path}: {len(content)} bytes, a checksum does not fit')
    opened = open_header(content)
    if opened is None:
        raise FaultyMaskError('unreadable-mask', f'{path}: {len(content)} bytes, no image')
    try:
        with opened as image:
            if image.format in _LOSSY:
                raise FaultyMaskError('jpeg-mask', f'{path}: {image.format}')
            pages = getattr(image, 'n_frames', 1)
            if pages > 1:
                raise FaultyMaskError('mask-channels', f'{path}: {pages} pages')
            values = np.asarray(image)
            # Pillow reads 32 bits as signed, whatever the file has.
            unsigned = image.format == 'TIFF' and image.tag_v2.get(_SAMPLE_FORMAT, (1,))[0] == 1  # type: ignore[attr-defined]  # of TiffImageFile
            return values.view(np.uint32) if unsigned and values.dtype == np.int32 else values
    except FaultyMaskError:
        raise
    except Exception as error:  # Pillow has many kinds for damaged files, also IndexError and struct.error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise FaultyMaskError('unreadable-mask', f'{path}: {len(content)} bytes, {lines[0]}') from error


def image_sizes(path: Path) -> list[tuple[int, int]]:
    """The sizes (height, width) that an image file may have when it is loaded, by its header; none where the header is of no
    known format.

    Two where an EXIF orientation swaps the sides: a loading step turns such an image or does not.
    """
    content = path.read_bytes()
    if is_tiff(content):
        try:
            return tiff_sizes(io.BytesIO(content))
        except Exception:  # tifffile has several kinds for files that are damaged; Pillow may read the header
            pass
    header = read_header(content)
    if header.size is None:
        return []
    return [header.size, header.size[::-1]] if header.orientation > 4 else [header.size]
