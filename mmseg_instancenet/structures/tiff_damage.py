"""Damage in the compressed pixels of a TIFF, which OpenCV prints and then passes over."""

import zlib
from collections.abc import Iterator
from io import BytesIO

import tifffile
from PIL import Image

from .image_headers import open_header

_DEFLATE = (tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE)
_BY_PILLOW = (tifffile.COMPRESSION.LZW, tifffile.COMPRESSION.PACKBITS)
_STEP = 2**20
"""Bytes that are decoded at once."""


def is_damaged_tiff(content: bytes) -> bool:
    """Whether the compressed pixels of the first page of a TIFF are known to be damaged.

    OpenCV decodes 8-bit TIFF strip by strip, prints an error for a strip that it cannot decode, and returns an image whose
    pixels from there on are made up. For Deflate the checksum of each strip or tile is compared here. It is Adler-32, which
    now and then is the same for changed bytes (in maps of a few values for about one flipped bit in 300). LZW and PackBits have
    no checksum: what cannot be decoded is found. Uncompressed pixels and JPEG have nothing to be compared.

    Time: that of one more decoding for the three compressions, else none. Peak memory: 1 MB; for LZW and PackBits the image.

    Example:
        >>> file = BytesIO()
        >>> tifffile.imwrite(file, bytearray(range(256)), shape=(16, 16), dtype='uint8', compression='zlib')
        >>> content = bytearray(file.getvalue())
        >>> is_damaged_tiff(content)
        False
        >>> content[-20] ^= 1
        >>> is_damaged_tiff(content)
        True
    """
    content = bytes(content)
    try:
        with tifffile.TiffFile(BytesIO(content)) as file:
            page = file.pages.first
            compression = page.compression
            if compression in _DEFLATE:
                return any(_is_damaged(segment, size) for segment, size in _segments(content, page))
    except Exception:  # damage of the tags, of which there are many kinds; the decoder judges them
        return False
    return compression in _BY_PILLOW and not _is_decoded_by_pillow(content)


def _segments(content: bytes, page: tifffile.TiffPage) -> Iterator[tuple[bytes, int]]:
    """The bytes of each strip or tile, and the number of bytes that its pixels have."""
    height = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
    width = page.tilewidth if page.is_tiled else page.imagewidth
    samples = 1 if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else page.samplesperpixel
    bytes_a_row = -(-width * samples * page.bitspersample // 8)
    strips_a_plane = -(-page.imagelength // height)
    for number, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        # The last strip has the rows that are left; a tile has all.
        left = height if page.is_tiled else page.imagelength - number % strips_a_plane * height
        if count:  # a tile without bytes is one without values
            yield content[offset : offset + count], min(height, left) * bytes_a_row


def _is_damaged(segment: bytes, size: int) -> bool:
    decoder, decoded = zlib.decompressobj(), 0
    try:
        while not decoder.eof and decoded <= size + _STEP:  # a few bytes beyond the pixels are no damage
            part = decoder.decompress(segment, _STEP)
            segment, decoded = decoder.unconsumed_tail, decoded + len(part)
            if not part and not decoder.eof:
                return True
    except zlib.error:
        return True
    return not decoder.eof or decoded < size


def _is_decoded_by_pillow(content: bytes) -> bool:
    image = open_header(content)
    if image is None:
        return (
            True  # of a kind that Pillow does not know, such as 16 bits of three channels; OpenCV is strict for these
        )
    try:
        with image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True
