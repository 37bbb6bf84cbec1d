"""Parts of TIFF files have the pixels that were written, in the form of the loading step, and are read without the rest."""

import gc
import warnings

import cv2
import numpy as np
import pytest
import tifffile

from mmseg_instancenet.datasets.transforms import LoadImageFromFile, NormalizePercentiles
from mmseg_instancenet.outputs import contrast_limits, image_blocks, open_windows

WINDOWS = [
    (slice(0, 7), slice(0, 9)),
    (slice(13, 50), slice(15, 64)),
    (slice(40, 61), slice(70, 83)),
    (slice(0, 61), slice(0, 83)),
]
STORED = {
    'one strip': {},
    'strips': dict(rowsperstrip=7),
    'strips, Deflate': dict(rowsperstrip=7, compression='zlib'),
    'strips, Deflate, predictor': dict(rowsperstrip=16, compression='zlib', predictor=True),
    'tiles': dict(tile=(16, 32)),
    'tiles, Deflate': dict(tile=(32, 16), compression='zlib'),
    'big endian, tiles, Deflate': dict(tile=(16, 16), compression='zlib', byteorder='>'),
    'big endian, one strip': dict(byteorder='>'),
}


def image_of(dtype: str, channels: int) -> np.ndarray:
    rng = np.random.default_rng(channels)
    shape = (61, 83) if channels == 1 else (61, 83, channels)
    values = rng.normal(0, 100, shape) if 'float' in dtype else rng.integers(0, np.iinfo(dtype).max, shape)
    return values.astype(dtype)


def write(path, image: np.ndarray, planar: bool = False, byteorder: str = '<', **settings) -> str:
    if image.ndim == 3:
        settings.update(
            photometric='rgb' if image.shape[2] == 3 else 'minisblack', planarconfig=('contig', 'separate')[planar]
        )
        image = image.transpose(2, 0, 1) if planar else image
    else:
        settings.update(photometric='minisblack')
    with tifffile.TiffWriter(path, byteorder=byteorder) as file:
        file.write(image, **settings)
    return str(path)


def assert_parts(path: str, load: LoadImageFromFile, expected: np.ndarray) -> None:
    image = open_windows(path, load)
    assert not isinstance(image, np.ndarray), 'read whole'
    assert image.shape == expected.shape and image.dtype == expected.dtype
    for window in WINDOWS:
        part = image[window]
        assert part.dtype == expected.dtype and part.dtype.isnative
        np.testing.assert_array_equal(part, expected[window])


@pytest.mark.parametrize('stored', STORED)
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
@pytest.mark.parametrize('channels, planar', [(1, False), (3, False), (3, True)])
def test_parts_are_those_that_were_written(stored, dtype, channels, planar, tmp_path):
    if dtype == 'float32' and 'predictor' in stored:
        pytest.skip('tifffile needs imagecodecs for the predictor of floating point')
    image = image_of(dtype, channels)
    path = write(tmp_path / 'image.tif', image, planar, **STORED[stored])
    assert_parts(path, LoadImageFromFile(color_type='unchanged'), image if channels == 1 else image[..., ::-1])
    bgr = np.stack([image] * 3, axis=2) if channels == 1 else image[..., ::-1]
    assert_parts(path, LoadImageFromFile(color_type=cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH), bgr)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
@pytest.mark.parametrize('channels', [1, 3])
def test_pack_bits(dtype, channels, tmp_path):
    image, path = image_of(dtype, channels) // 99, str(tmp_path / 'image.tif')  # long runs of equal bytes
    settings = [cv2.IMWRITE_TIFF_COMPRESSION, 32773, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 7]
    assert cv2.imwrite(path, image, settings)
    assert_parts(path, LoadImageFromFile(color_type='unchanged'), image)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
def test_the_rules_of_the_loading_step_hold(dtype, tmp_path):
    colour = write(tmp_path / 'colour.tif', image_of(dtype, 3), tile=(16, 16), compression='zlib')
    grey = write(tmp_path / 'grey.tif', image_of(dtype, 1), rowsperstrip=5)
    for settings in (dict(max_value=4095), dict(max_value=65535, to_float32=True)):
        for path, load in (
            (colour, LoadImageFromFile(**settings)),
            (grey, LoadImageFromFile(**settings)),
            (grey, LoadImageFromFile(color_type='grayscale', **settings)),
        ):
            assert_parts(path, load, load({'img_path': path})['img'])


@pytest.mark.parametrize('channels', [1, 2, 3, 5])
def test_any_number_of_channels_by_tifffile(channels, tmp_path):
    image = image_of('uint16', channels)
    path = write(tmp_path / 'image.tif', image, tile=(16, 16), compression='zlib')
    load = LoadImageFromFile(color_type='unchanged', imdecode_backend='tifffile')
    assert_parts(path, load, image)
    np.testing.assert_array_equal(load({'img_path': path})['img'], image)


def other_files(folder) -> dict[str, str]:
    image, grey = image_of('uint8', 3), image_of('uint8', 1)
    paths = {
        name: str(folder / name) for name in ('image.png', 'whole.tif', 'transparent.tif', 'palette.tif', 'turned.tif')
    }
    cv2.imwrite(paths['image.png'], image)
    write(paths['whole.tif'], image, rowsperstrip=61, compression='zlib')
    tifffile.imwrite(
        paths['transparent.tif'], image_of('uint8', 4), photometric='rgb', extrasamples=['unassalpha'], rowsperstrip=7
    )
    tifffile.imwrite(
        paths['palette.tif'],
        grey,
        photometric='palette',
        colormap=np.arange(768).reshape(3, 256).astype(np.uint16),
        rowsperstrip=7,
    )
    tifffile.imwrite(
        paths['turned.tif'], grey, extratags=[(274, 'H', 1, 3, True)], rowsperstrip=7, photometric='minisblack'
    )
    return paths


@pytest.mark.parametrize('name', ['image.png', 'whole.tif', 'transparent.tif', 'palette.tif', 'turned.tif'])
def test_other_files_are_read_whole(name, tmp_path):
    path, load = other_files(tmp_path)[name], LoadImageFromFile()
    image = open_windows(path, load)
    assert isinstance(image, np.ndarray)
    np.testing.assert_array_equal(image, load({'img_path': path})['img'])


def test_files_that_the_loading_step_refuses(tmp_path):
    deep = write(tmp_path / 'deep.tif', image_of('uint16', 1), rowsperstrip=7)
    with pytest.raises(ValueError, match='deep.tif: expected 8 bits, got uint16'):
        open_windows(deep, LoadImageFromFile())
    with pytest.raises(FileNotFoundError, match='none.tif'):
        open_windows(tmp_path / 'none.tif', LoadImageFromFile())
    (tmp_path / 'text.tif').write_text('no image')
    with pytest.raises(ValueError, match='text.tif: expected an image'):
        open_windows(tmp_path / 'text.tif', LoadImageFromFile())


def test_a_damaged_part_is_named(tmp_path):
    path = write(tmp_path / 'image.tif', image_of('uint8', 1), tile=(16, 16), compression='zlib')
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
    with open(path, 'r+b') as file:
        file.seek(offset)
        file.write(bytes(count))
    image = open_windows(path, LoadImageFromFile())
    image[:16, :16]
    with pytest.raises(
        ValueError, match='image.tif: expected a whole TIFF, got one whose rows 48 to 61 cannot be decoded'
    ):
        image[48:64, 64:83]


def test_only_the_segments_of_a_part_are_read(tmp_path, monkeypatch):
    path = write(tmp_path / 'image.tif', image_of('uint8', 3), planar=True, tile=(16, 16), compression='zlib')
    image = open_windows(path, LoadImageFromFile())
    numbers = []
    encoded = type(image)._encoded
    monkeypatch.setattr(type(image), '_encoded', lambda self, number: numbers.append(number) or encoded(self, number))
    image[17:32, 40:50]  # rows of tiles: 4; columns: 6
    assert numbers == [8, 9, 32, 33, 56, 57]


def test_the_file_is_closed(tmp_path):
    path = write(tmp_path / 'image.tif', image_of('uint8', 1), tile=(16, 16), compression='zlib')
    image = open_windows(path, LoadImageFromFile())
    handle = image._file.filehandle
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        del image
        gc.collect()
    assert handle.closed


def test_blocks_cover_an_image_once():
    image = np.arange(13 * 17 * 2).reshape(13, 17, 2)
    blocks = list(image_blocks(image, 5))
    assert max(max(block.shape[:2]) for block in blocks) == 5
    assert sorted(value for block in blocks for value in block.ravel().tolist()) == image.ravel().tolist()


@pytest.mark.parametrize('per_channel', [False, True])
def test_tiles_get_the_contrast_of_the_whole_file(per_channel, tmp_path):
    path = write(tmp_path / 'image.tif', image_of('uint16', 3), tile=(16, 16), compression='zlib')
    load, step = LoadImageFromFile(color_type=3), NormalizePercentiles(per_channel=per_channel)
    whole = step(load({'img_path': path}))['img']
    image = open_windows(path, load)
    limits = contrast_limits(image, step.low, step.high, per_channel, block=20)
    for window in WINDOWS:
        np.testing.assert_array_equal(step({'img': image[window], 'contrast_limits': limits})['img'], whole[window])
