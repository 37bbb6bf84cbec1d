"""Parts of images that are too large to be held."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import tifffile
from mmcv.transforms import BaseTransform

from ..datasets.transforms import LoadImageFromFile
from ..structures import max_pixels, percentile_limits_of_parts


class ImageWindows(Protocol):
    """An image of which parts can be read, ``image[rows, columns]`` by two slices. Arrays and memory maps are such images."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, C)."""

    @property
    def dtype(self) -> np.dtype:
        """Of the parts."""

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        """(h, w) or (h, w, C)."""


def open_windows(path: str | Path, load: BaseTransform) -> ImageWindows:
    """Opens an image file to read parts of it, with the values that the loading step of a pipeline gives.

    A TIFF is read by parts if ``load`` is a :class:`LoadImageFromFile` and each of these holds:

    - its first page is an image of 8 or 16 bits or of floating point, grey or RGB, without a palette and without transparency,
      not turned by its tag of orientation; with ``imdecode_backend='tifffile'`` of any kind and number of channels, which lie
      together, and the only image of the file;
    - its pixels lie in tiles, in several strips, or without compression; channels together or in planes of their own;
    - its compression is none, Deflate, PackBits, LZMA, or another one that ``tifffile`` can decode here (LZW and Zstandard need
      the package ``imagecodecs``), not JPEG;
    - ``color_type`` is 'color' or 'unchanged' (also with all bits of the file, as OpenCV's number 3), or the file is grey.

    Any other file is read whole, by the loading step.

    Args:
        path: of the file.
        load: first step of the pipeline.

    Returns:
        parts of what ``load`` gives, BGR where it gives BGR. Reading a part takes the memory of the part, and of one tile or
        strip of the file. The file is open until the returned object is deleted.

    Raises:
        ValueError, OSError: of the loading step; ValueError also later, where a part turns out to be damaged.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), 'image.tif')
        >>> tifffile.imwrite(path, np.arange(64 * 48, dtype=np.uint16).reshape(64, 48), tile=(16, 16), compression='zlib')
        >>> image = open_windows(path, LoadImageFromFile(color_type='unchanged'))
        >>> image.shape, image[10:12, 20:23].tolist()
        ((64, 48), [[500, 501, 502], [548, 549, 550]])
    """
    if isinstance(load, LoadImageFromFile):
        try:
            return _TiffWindows(str(path), load)
        except Exception:  # no TIFF, or one of another kind: tifffile has no common class of errors
            pass
    return load({'img_path': str(path)})['img']


def image_blocks(image: ImageWindows, side: int) -> Iterator[np.ndarray]:
    """Walks through an image in blocks of at most ``side`` x ``side`` pixels, row by row; each pixel is in one of them."""
    height, width = image.shape[:2]
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield image[top : top + side, left : left + side]


def contrast_limits(
    image: ImageWindows, low: float = 1.0, high: float = 99.8, per_channel: bool = False, block: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """The two values that :class:`NormalizePercentiles` maps to 0 and 1, of an image that is read in blocks.

    With them (``results['contrast_limits']``) every tile gets the contrast of the whole image. Tiles with contrasts of their
    own would find other objects at their seams, and objects of noise where there is background alone.

    Args:
        image: (H, W) or (H, W, C).
        low, high, per_channel: of :class:`NormalizePercentiles`.
        block: side of the blocks, pixels.

    Returns:
        and peak memory: see :func:`percentile_limits_of_parts`.

    Example:
        >>> dark, bright = contrast_limits(np.arange(101, dtype=np.uint8)[None], low=10, high=90, block=16)
        >>> float(dark), float(bright)
        (10.0, 90.0)
    """
    return percentile_limits_of_parts(lambda: image_blocks(image, block), low, high, per_channel)


class _TiffWindows:
    """Parts of a TIFF; ValueError for one of a kind that is not read by parts."""

    def __init__(self, path: str, load: LoadImageFromFile) -> None:
        self._path, self._load = path, load
        self._file = tifffile.TiffFile(path)
        try:
            page = self._file.pages[0]
            if not isinstance(page, tifffile.TiffPage) or page.dtype is None:
                raise ValueError('expected a page of its own with pixels of a common type')
            self._page, self._type = page, page.dtype.newbyteorder('=')
            if page.imagelength * page.imagewidth > max_pixels() or page.tilelength * page.tilewidth > max_pixels():
                raise ValueError('expected fewer pixels; the loading step names the limit')
            self._check_kind()
            # Without compression the pixels of the image follow each other in the file.
            self._pixels = tifffile.memmap(path, page=0, mode='r') if page.is_memmappable else None
            corner = self[:1, :1]  # decodes, and applies the rules of the loading step
            self._dtype, self._shape = corner.dtype, (page.imagelength, page.imagewidth, *corner.shape[2:])
        except BaseException:
            self._file.close()
            raise
        weakref.finalize(self, self._file.close)

    def _check_kind(self) -> None:
        page, load = self._page, self._load
        planes = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1
        if load.imdecode_backend == 'tifffile':
            of_a_kind = len(self._file.series) == len(self._file.pages) == 1 and not planes
        else:
            of_a_kind = (
                load.imdecode_backend == 'cv2'
                and self._type in (np.uint8, np.uint16, np.float32, np.float64)
                and (page.photometric, page.samplesperpixel)
                in ((tifffile.PHOTOMETRIC.MINISBLACK, 1), (tifffile.PHOTOMETRIC.RGB, 3))
                and (page.samplesperpixel == 1 or self._gives_color())
                and page.tags.valueof('Orientation', 1) == 1
            )
        compressed_whole = len(page.dataoffsets) == 1 and not page.is_memmappable
        jpeg = page.compression in (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG)
        if (
            not of_a_kind
            or compressed_whole
            or jpeg
            or page.imagedepth != 1
            or page.bitspersample != 8 * self._type.itemsize
        ):
            raise ValueError('expected a TIFF of a kind that is read by parts')

    def _gives_color(self) -> bool:
        form = self._load.color_form
        return form == cv2.IMREAD_UNCHANGED or bool(form & cv2.IMREAD_COLOR)

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, C)."""
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        """Of the parts."""
        return self._dtype

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (
            range(side)[part]
            for part, side in zip(window, (self._page.imagelength, self._page.imagewidth), strict=True)
        )
        try:
            image_hwS = self._read(rows, columns)
        except Exception as error:
            raise ValueError(
                f'{self._path}: expected a whole TIFF, got one whose rows {rows.start} to {rows.stop} cannot be decoded: '
                f'{error!r}'
            ) from error
        return self._load.in_range(self._in_form(image_hwS), self._path)

    def _in_form(self, image_hwS: np.ndarray) -> np.ndarray:
        """The channels that the loading step gives."""
        if self._load.imdecode_backend == 'tifffile':
            return image_hwS.reshape(*image_hwS.shape[:2], *self._page.shape[2:])
        if image_hwS.shape[2] == 3:
            return image_hwS[..., ::-1]
        if self._load.color_form != cv2.IMREAD_UNCHANGED and self._gives_color():
            return np.repeat(image_hwS, 3, axis=2)
        return image_hwS[..., 0]

    def _read(self, rows: range, columns: range) -> np.ndarray:
        """(h, w, S) as the file holds it."""
        page = self._page
        samples, together = page.samplesperpixel, page.planarconfig == tifffile.PLANARCONFIG.CONTIG
        window = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        if self._pixels is not None:
            shape = (page.imagelength, page.imagewidth)
            pixels_HWS = (
                self._pixels.reshape(*shape, samples)
                if together
                else self._pixels.reshape(samples, *shape).transpose(1, 2, 0)
            )
            return np.array(pixels_HWS[window], self._type)
        part_hwS = np.full((len(rows), len(columns), samples), page.nodata, self._type)
        for number in self._segments(rows, columns):
            segment, (plane, _, top, left, _), _ = page.decode(self._encoded(number), number)
            if segment is None:
                continue
            segment_hwS = segment[0]
            # Of the segment, its last pixels beyond the image included, what lies in the window.
            bottom, right = min(top + segment_hwS.shape[0], rows.stop), min(left + segment_hwS.shape[1], columns.stop)
            first_row, first_column = max(top, rows.start), max(left, columns.start)
            channels = slice(None) if together else slice(plane, plane + 1)
            part_hwS[
                first_row - rows.start : bottom - rows.start,
                first_column - columns.start : right - columns.start,
                channels,
            ] = segment_hwS[first_row - top : bottom - top, first_column - left : right - left]
        return part_hwS

    def _segments(self, rows: range, columns: range) -> Iterator[int]:
        """The numbers of the tiles or strips that have pixels of a window, in the order of the file."""
        page = self._page
        height = page.tilelength if page.is_tiled else page.rowsperstrip
        width = page.tilewidth if page.is_tiled else page.imagewidth
        down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
        for plane in range(len(page.dataoffsets) // (down * across)):
            for row in range(rows.start // height, -(-rows.stop // height)):
                for column in range(columns.start // width, -(-columns.stop // width)):
                    yield (plane * down + row) * across + column

    def _encoded(self, number: int) -> bytes | None:
        """The bytes of a tile or strip; ``None`` for one that the file leaves out."""
        count = self._page.databytecounts[number]
        if not count:
            return None
        handle = self._page.parent.filehandle
        handle.seek(self._page.dataoffsets[number])
        return handle.read(count)
