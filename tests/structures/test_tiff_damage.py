"""Damage in the pixels of TIFF files."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from mmseg_instancenet.datasets.label_images.mask_files import FaultyMaskError, read_mask
from mmseg_instancenet.structures import decode_image
from mmseg_instancenet.structures.tiff_damage import is_damaged_tiff

RNG = np.random.default_rng(0)
RGB = cv2.GaussianBlur(RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8), (9, 9), 3)
DEFLATE = {
    'one strip': dict(data=RGB, photometric='rgb'),
    'strips, the last one shorter': dict(data=RGB, photometric='rgb', rowsperstrip=16),
    'tiles': dict(data=RGB[..., 0], tile=(16, 32)),
    'planes': dict(
        data=np.ascontiguousarray(RGB.transpose(2, 0, 1)), photometric='rgb', planarconfig='separate', rowsperstrip=16
    ),
    '16 bits': dict(data=RGB[..., 0].astype(np.uint16) * 200),
    'predictor': dict(data=RGB, photometric='rgb', predictor=True),
    'one bit': dict(data=RGB[..., 0] > 99),
}


def write(settings: dict, compression: str = 'zlib') -> tuple[bytes, list[tuple[int, int]]]:
    """A file, and where its strips or tiles begin and end."""
    file = io.BytesIO()
    tifffile.imwrite(file, compression=compression, **settings)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        page = tiff.pages[0]
        places = [(start, start + count) for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    return file.getvalue(), places


@pytest.mark.parametrize('name', DEFLATE)
def test_a_changed_bit_of_deflate_is_found(name):
    content, places = write(DEFLATE[name])
    whole = decode_image(content, cv2.IMREAD_COLOR)
    assert not is_damaged_tiff(content) and whole is not None
    found = unnoticed = 0
    for number in range(100):
        start, stop = places[number % len(places)]
        damaged = bytearray(content)
        place = int(RNG.integers(start + 2, stop))  # after two bytes of zlib's header, some of whose bits mean nothing
        damaged[place] ^= 1 << int(RNG.integers(8))
        found += is_damaged_tiff(bytes(damaged))
        image = decode_image(bytes(damaged), cv2.IMREAD_COLOR)
        unnoticed += image is not None and not np.array_equal(image, whole)  # of the same checksum by chance
    assert found >= 90 and unnoticed <= 2


@pytest.mark.parametrize('compression', ['tiff_lzw', 'packbits'])
def test_what_cannot_be_decoded_of_other_compressions_is_found(compression):
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, 'TIFF', compression=compression)
    content = file.getvalue()
    assert not is_damaged_tiff(content)
    np.testing.assert_array_equal(decode_image(content, cv2.IMREAD_COLOR), RGB[..., ::-1])
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        start, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    damaged = bytearray(content)
    damaged[start : start + count] = (
        b'\x81' * count
    )  # LZW: codes that no earlier one has defined; PackBits: too many bytes
    if compression == 'tiff_lzw':
        assert is_damaged_tiff(bytes(damaged)) and decode_image(bytes(damaged), cv2.IMREAD_COLOR) is None


def test_a_damaged_mask_is_refused(tmp_path):
    labels = RNG.integers(0, 9, (30, 40)).astype(np.uint16)
    content, ((start, stop),) = write(dict(data=labels))
    (tmp_path / 'mask.tif').write_bytes(content)
    np.testing.assert_array_equal(read_mask(tmp_path / 'mask.tif'), labels)
    damaged = bytearray(content)
    damaged[stop - 1] ^= 1  # the checksum alone: the labels are whole, and nobody can know
    (tmp_path / 'mask.tif').write_bytes(damaged)
    with pytest.raises(FaultyMaskError, match='mask.tif: .* its pixels are damaged'):
        read_mask(tmp_path / 'mask.tif')


def test_tiles_without_bytes_are_no_damage():
    content, _ = write(dict(data=np.zeros((64, 64), np.uint8), tile=(16, 16)))
    assert not is_damaged_tiff(content)
    assert not is_damaged_tiff(b'II*\0')
