"""Reads MATLAB files of data sets."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from scipy.io import loadmat

from ..structures import PIXEL_LIMIT, max_pixels

_COMPRESSED = 15
"""Number of the type of a compressed element in MATLAB 5."""


def load_mat(content: bytes, name: str, **kwargs: Any) -> dict:
    """Reads a file of MATLAB 5 by scipy, with the checksums of its compressed parts and a limit for their size.

    The checksum is Adler-32: about one flipped bit in 300 of a map of a few values leaves it as it is. Parts that are not
    compressed have none.

    Args:
        content: of the file.
        name: of the file, for messages.
        **kwargs: of ``scipy.io.loadmat``.

    Raises:
        ValueError: for a file that is damaged or none of MATLAB 5, or takes more than four bytes for each of
            :func:`max_pixels` pixels when it is unpacked.

    Example:
        >>> from scipy.io import savemat
        >>> file = io.BytesIO()
        >>> savemat(file, {'a': [[1, 2]]}, do_compression=True)
        >>> load_mat(file.getvalue(), 'a.mat')['a'].tolist()
        [[1, 2]]
        >>> load_mat(file.getvalue()[:-5], 'a.mat')  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: a.mat: expected a MATLAB 5 file that is whole, got ... bytes that cannot be read: ...
    """
    limit = 4 * max_pixels()
    try:
        unpacked = sum(_unpacked_size(packed, limit) for packed in _compressed_parts(content))
        if unpacked <= limit:
            return loadmat(io.BytesIO(content), **kwargs)
    except Exception as error:  # scipy has many kinds for damaged files
        raise ValueError(
            f'{name}: expected a MATLAB 5 file that is whole, got {len(content)} bytes that cannot be read: {error!r}'
        ) from error
    raise ValueError(
        f'{name}: expected at most {limit:,} bytes when it is unpacked, got more: a small file may hold any number of zeros. If '
        f'that is right, set the environment variable {PIXEL_LIMIT} to more than {max_pixels()}'
    )


def _compressed_parts(content: bytes) -> Iterator[bytes]:
    order = '>' if content[126:128] == b'MI' else '<'
    position = 128  # after the header
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f'{order}II', content, position)
        if kind == _COMPRESSED:
            yield content[position + 8 : position + 8 + size]
        position += 8 + size


def _unpacked_size(packed: bytes, limit: int) -> int:
    """The size of a part; one above the limit is not unpacked further. Raises ``zlib.error`` for a damaged part."""
    decoder, size, step = zlib.decompressobj(), 0, 2**20
    while not decoder.eof and size <= limit:
        unpacked = decoder.decompress(packed, step)
        size, packed = size + len(unpacked), decoder.unconsumed_tail
        if not unpacked and not decoder.eof:
            raise zlib.error('a compressed part is cut off')
    return size
