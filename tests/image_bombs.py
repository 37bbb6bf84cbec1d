"""Small image files whose headers announce any size."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image


def png_bomb(height: int, width: int) -> bytes:
    """A whole grey PNG in its header and chunks, whose pixels end after a thousand bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b'')
    )


def jpeg_bomb(height: int, width: int) -> bytes:
    """A JPEG of 8 x 8 pixels with another size in its header."""
    file = io.BytesIO()
    Image.new('L', (8, 8)).save(file, 'JPEG')
    content = bytearray(file.getvalue())
    start = content.index(b'\xff\xc0') + 5  # marker, length, bits; then height and width
    content[start : start + 4] = struct.pack('>HH', height, width)
    return bytes(content)


def tiff_bomb(height: int, width: int) -> bytes:
    """A TIFF of 8 x 8 pixels with another size in its tags."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((8, 8), np.uint8), compression='zlib')
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        places = [
            (tiff.pages[0].tags[name].valueoffset, value)
            for name, value in (('ImageLength', height), ('ImageWidth', width))
        ]
        order = tiff.byteorder
        kinds = [tiff.pages[0].tags[name].dtype for name in ('ImageLength', 'ImageWidth')]
    content = bytearray(file.getvalue())
    for (place, value), kind in zip(places, kinds, strict=True):
        struct.pack_into(order + ('H' if kind == 3 else 'I'), content, place, value)
    return bytes(content)


BOMBS = {'png': png_bomb, 'jpg': jpeg_bomb, 'tif': tiff_bomb}
