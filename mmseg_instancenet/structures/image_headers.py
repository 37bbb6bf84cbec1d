"""What the header of an image file says, before a pixel is decoded, and the limit for its size."""

import os
import re
from io import BytesIO

import tifffile
from PIL import Image

PIXEL_LIMIT = 'OPENCV_IO_MAX_IMAGE_PIXELS'
"""The environment variable with which OpenCV's users set their own limit; ours is the same."""

_FORMATS = ('PNG', 'JPEG', 'TIFF', 'BMP', 'WEBP', 'GIF', 'JPEG2000', 'PPM')
"""Of Pillow's, those that OpenCV reads too."""


def max_pixels() -> int:
    """The greatest number of pixels of an image: :data:`PIXEL_LIMIT` of the environment, or OpenCV's 2^30.

    Raises:
        ValueError: if the variable is no number.
    """
    text = os.environ.get(PIXEL_LIMIT, '')
    if not text:
        return 2**30
    number = re.fullmatch(r'(\d+)(kb|mb)?', text, re.IGNORECASE)  # the units that OpenCV reads
    if number is None:
        raise ValueError(f'{PIXEL_LIMIT}: expected a number of pixels, got {text!r}')
    return int(number[1]) * {'': 1, 'kb': 2**10, 'mb': 2**20}[(number[2] or '').lower()]


def is_tiff(content: bytes) -> bool:
    """Whether a file is TIFF or BigTIFF, by its first four bytes."""
    return content[:4] in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')


def open_header(content: bytes) -> Image.Image | None:
    """Opens an image file by Pillow: its header is read, no pixel is decoded; ``None`` for a file of no known format.

    ``PIL.Image.open`` has a limit of its own, of 179 million pixels, and refuses to tell the size of a larger image.

    Example:
        >>> file = BytesIO()
        >>> Image.new('L', (40, 30)).save(file, 'PNG')
        >>> with open_header(file.getvalue()) as image:
        ...     image.size
        (40, 30)
        >>> open_header(b'text')
    """
    Image.init()
    for name in _FORMATS:
        opener, accepts = Image.OPEN.get(name, (None, None))
        if opener is None or accepts is None or accepts(content[:16]) is not True:
            continue
        try:
            return opener(BytesIO(content), '')
        except Exception:  # damaged, of which each format has several kinds of errors
            return None
    return None


def stored_size(content: bytes) -> tuple[int, int] | None:
    """The size (height, width) in the header of an image file, or of its tiles if they are larger; ``None`` for a file of no
    known format."""
    if is_tiff(content):
        try:
            with tifffile.TiffFile(BytesIO(content)) as file:
                page = file.pages.first
                return max(page.imagelength, page.tilelength), max(page.imagewidth, page.tilewidth)
        except Exception:  # tifffile has several kinds for files that are damaged; Pillow may read the header
            pass
    image = open_header(content)
    if image is None:
        return None
    with image:
        return image.size[::-1]


class TooManyPixelsError(ValueError):
    """An image that is not decoded, since its header announces more pixels than the limit."""

    def __init__(self, name: str, height: int, width: int) -> None:
        super().__init__(
            f'{name}: expected an image of at most {max_pixels():,} pixels, got a header of {height} x {width} (height x '
            f'width): a small file may announce any size. If the image is that large, set the environment variable {PIXEL_LIMIT} '
            f'to {height * width} or more before Python starts'
        )


def check_pixel_count(content: bytes, name: str) -> None:
    """Raises :class:`TooManyPixelsError` for an image whose header announces more than :func:`max_pixels`.

    Args:
        content: of the file.
        name: of the file, for the message.

    Example:
        >>> check_pixel_count(b'P5 60000 60000 255 ', 'image.pgm')  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        mmseg_instancenet.structures.image_headers.TooManyPixelsError: image.pgm: expected an image of at most ...
    """
    size = stored_size(content)
    if size is not None and size[0] * size[1] > max_pixels():
        raise TooManyPixelsError(name, *size)
