"""``LoadImageFromFile``: every depth, form and damage of a file."""

import io

import cv2
import mmcv
import numpy as np
import pytest
import tifffile
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmengine.dataset import Compose
from PIL import Image

from mmseg_instancenet.datasets.transforms import LoadImageFromFile, NormalizePercentiles
from mmseg_instancenet.structures import normalize_percentiles

SIZE = (13, 17)
RNG = np.random.default_rng(0)
GREY, BGR, BGRA = (RNG.integers(0, 256, (*SIZE, *rest)).astype(np.uint8) for rest in ((), (3,), (4,)))


def write(path, image) -> str:
    if isinstance(image, Image.Image):
        image.save(path)
    else:
        assert cv2.imwrite(str(path), image)
    return str(path)


def load(path, **settings) -> np.ndarray:
    """Loads a file by the transform's name in a config."""
    results = Compose([dict(type='LoadImageFromFile', **settings)])({'img_path': str(path)})
    assert results['img_shape'] == results['ori_shape'] == results['img'].shape[:2]
    return results['img']


EIGHT_BITS = {
    'grey.png': GREY,
    'grey.tif': GREY,
    'colour.png': BGR,
    'colour.jpg': BGR,
    'colour.bmp': BGR,
    'transparent.png': BGRA,
    'grey-transparent.png': Image.fromarray(BGR[..., :2], 'LA'),
    'palette.png': Image.fromarray(BGR).quantize(7),
    'one-bit.png': Image.fromarray(GREY > 99),
    'one-bit.tif': Image.fromarray(GREY > 99),
    'progressive.jpg': Image.fromarray(BGR),
}


@pytest.mark.parametrize('name', EIGHT_BITS)
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('color_type', ['color', 'grayscale', 'unchanged', 3])
def test_eight_bits_are_read_as_mmcv_reads_them(tmp_path, name, backend, color_type):
    if backend == 'pillow' and color_type == 3:
        return  # a number is OpenCV's
    path = write(tmp_path / name, EIGHT_BITS[name])
    settings = dict(color_type=color_type, imdecode_backend=backend)
    expected = MMCVLoadImageFromFile(**settings)({'img_path': path})['img']
    if expected.dtype == bool:
        expected = np.where(expected, 255, 0)
    np.testing.assert_array_equal(load(path, **settings), expected)
    np.testing.assert_array_equal(load(path, **settings, max_value=4095), expected)
    if color_type == 'color':
        assert expected.shape == (*SIZE, 3)


def test_the_values_of_one_bit_and_of_a_palette(tmp_path):
    one_bit = load(write(tmp_path / 'bit.png', EIGHT_BITS['one-bit.png']))
    np.testing.assert_array_equal(one_bit, np.stack([np.where(GREY > 99, 255, 0)] * 3, axis=2))
    palette = load(write(tmp_path / 'palette.png', EIGHT_BITS['palette.png']))
    np.testing.assert_array_equal(palette[..., ::-1], np.asarray(EIGHT_BITS['palette.png'].convert('RGB')))


def draw(dtype: str, shape: tuple[int, ...] = SIZE) -> np.ndarray:
    """Twelve bits, or 0 .. 1."""
    return np.random.default_rng(1).uniform(0, 1 if dtype == 'float32' else 4080, shape).astype(dtype)


DEEP = {
    'grey.png': draw('uint16'),
    'grey.tif': draw('uint16'),
    'colour.png': draw('uint16', (*SIZE, 3)),
    'colour.tif': draw('uint16', (*SIZE, 3)),
    'transparent.png': draw('uint16', (*SIZE, 4)),
    'float.tif': draw('float32'),
    'float-colour.tif': draw('float32', (*SIZE, 3)),
    'integers.tif': Image.fromarray(draw('int32')),
}


@pytest.mark.parametrize('name', DEEP)
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('color_type', ['color', 'grayscale', 'unchanged'])
def test_more_than_eight_bits_are_scaled_by_one_rule(tmp_path, name, backend, color_type):
    path, image = write(tmp_path / name, DEEP[name]), np.asarray(DEEP[name]).astype(np.float64)
    top = 1.0 if 'float' in name else 4095
    if color_type == 'color':
        image = image[..., :3] if image.ndim == 3 else np.stack([image] * 3, axis=2)
    elif color_type == 'grayscale' and image.ndim == 3:
        image = image[..., :3] @ (0.114, 0.587, 0.299)
    settings = dict(color_type=color_type, imdecode_backend=backend)
    found = load(path, **settings, max_value=top)
    assert found.dtype == np.uint8 and found.shape == image.shape
    assert np.abs(found - image * 255 / top).max() < (0.6 if color_type != 'grayscale' else 1.1)
    exact = load(path, **settings, max_value=top, to_float32=True)
    assert exact.dtype == np.float32 and np.abs(exact - image * 255 / top).max() < 0.1
    # What is brighter than max_value is white, whatever the rest of the image holds.
    np.testing.assert_array_equal(
        load(path, **settings, max_value=top / 2),
        (exact * 2).clip(0, 255).round(),
    )


@pytest.mark.parametrize('name', DEEP)
@pytest.mark.parametrize(
    'settings', [{}, {'to_float32': True}, {'color_type': 'grayscale'}, {'imdecode_backend': 'pillow'}]
)
def test_without_a_rule_they_are_refused_by_name(tmp_path, name, settings):
    path = write(tmp_path / name, DEEP[name])
    with pytest.raises(
        ValueError, match=rf'{name}: expected 8 bits, got \w+ up to [\d.]+ .*max_value.*NormalizePercentiles'
    ):
        load(path, **settings)


@pytest.mark.parametrize('name', DEEP)
def test_their_values_are_kept_for_percentiles(tmp_path, name):
    path, image = write(tmp_path / name, DEEP[name]), np.asarray(DEEP[name])
    unchanged = load(path, color_type='unchanged')
    assert unchanged.dtype == image.dtype
    np.testing.assert_array_equal(unchanged, image)
    bgr = image[..., :3] if image.ndim == 3 else np.stack([image] * 3, axis=2)
    np.testing.assert_array_equal(load(path, color_type=3), bgr)
    results = NormalizePercentiles()(LoadImageFromFile(color_type=3)({'img_path': path}))
    np.testing.assert_array_equal(results['img'], normalize_percentiles(bgr))


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_values_that_are_no_numbers(tmp_path, value):
    image = draw('float32')
    image[2, 3] = value
    with pytest.raises(ValueError, match=r'float\.tif: expected finite values'):
        load(write(tmp_path / 'float.tif', image), max_value=1)


def test_any_number_of_channels_by_tifffile(tmp_path):
    tifffile = pytest.importorskip('tifffile')
    for channels in ((), (2,), (5,)):
        image = draw('uint16', (*SIZE, *channels))
        planes = 'contig' if channels else None
        tifffile.imwrite(tmp_path / 'image.tif', image, planarconfig=planes, photometric='minisblack')
        settings = dict(imdecode_backend='tifffile', max_value=4095)
        found = load(tmp_path / 'image.tif', **settings)
        np.testing.assert_allclose(found, image * (255 / 4095), atol=0.51)


# Files that are no images


def encoded(extension: str) -> bytes:
    image = cv2.GaussianBlur(RNG.integers(0, 256, (60, 70, 3)).astype(np.uint8), (0, 0), 2)
    return cv2.imencode(extension, image)[1].tobytes()


@pytest.mark.parametrize('extension', ['.png', '.jpg', '.tif', '.bmp', '.webp'])
@pytest.mark.parametrize('share', [0, 0.1, 0.5, 0.95])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_a_part_of_a_file_is_named(tmp_path, extension, share, backend):
    content = encoded(extension)
    path = tmp_path / f'part{extension}'
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf'part\{extension}: expected an image.*, got (a file of 0|\d+) bytes'):
        load(path, imdecode_backend=backend)
    assert LoadImageFromFile(ignore_empty=True)({'img_path': str(path)}) is None
    path.write_bytes(content)
    np.testing.assert_array_equal(load(path), mmcv.imread(str(path)))


def jpeg_with_a_thumbnail() -> bytes:
    """The thumbnail is a whole JPEG inside the first part of the file."""
    exif = Image.Exif()
    exif[0x010E] = 'x'
    thumbnail = encoded('.jpg')
    buffer = io.BytesIO()
    Image.fromarray(BGR).save(buffer, 'JPEG', exif=exif.tobytes() + thumbnail)
    assert buffer.getvalue().count(b'\xff\xd9') == 2
    return buffer.getvalue()


@pytest.mark.parametrize('content', [encoded('.jpg'), jpeg_with_a_thumbnail(), EIGHT_BITS['progressive.jpg']])
def test_a_jpeg_without_its_end_is_found_by_any_version_of_opencv(content, monkeypatch, tmp_path):
    """Some versions, as the installed one, fill the rest with grey."""
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        content.save(buffer, 'JPEG', progressive=True)
        content = buffer.getvalue()
    monkeypatch.setattr(cv2, 'imdecode', lambda *arguments: GREY)
    path = tmp_path / 'image.jpg'
    for whole in (content, content + b'trailer'):
        path.write_bytes(whole)
        np.testing.assert_array_equal(load(path), GREY)
    for count in (3, 30, len(content) - 100, len(content) - 2):
        path.write_bytes(content[:count])
        with pytest.raises(ValueError, match=r'image\.jpg: expected an image'):
            load(path)


@pytest.mark.parametrize('name', ['text.png', 'page.html', 'table.tif'])
def test_a_file_that_is_no_image_is_named(tmp_path, name):
    (tmp_path / name).write_text('<html>404: not found</html>')
    with pytest.raises(ValueError, match=f'{name}: expected an image that cv2 reads, got 27 bytes'):
        load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match='none.png'):
        load(tmp_path / 'none.png')


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'max_value': 0}, 'max_value > 0'),
        ({'max_value': -4}, 'max_value > 0'),
        ({'max_value': float('nan')}, 'max_value > 0'),
        ({'color_type': 'colour'}, "expected color_type out of .*got 'colour'"),
        ({'file_client_args': {'backend': 'disk'}}, 'expected backend_args'),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        LoadImageFromFile(**settings)


@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
@pytest.mark.parametrize('settings', [{}, {'compression': 'zlib', 'rowsperstrip': 5}, {'tile': (16, 16)}])
def test_planes_of_more_than_eight_bits(dtype, settings, tmp_path):
    """OpenCV takes the planes for rows of pixels."""
    rgb = np.random.default_rng(0).integers(0, 65536, (21, 34, 3)).astype(dtype)
    path = tmp_path / 'planes.tif'
    tifffile.imwrite(path, rgb.transpose(2, 0, 1), photometric='rgb', planarconfig='separate', **settings)
    np.testing.assert_array_equal(load(path, color_type=3), rgb[..., ::-1])
    np.testing.assert_array_equal(load(path, color_type='unchanged'), rgb[..., ::-1])
    found = load(path, max_value=65535, to_float32=True)
    np.testing.assert_allclose(found, rgb[..., ::-1] * (255 / 65535), rtol=1e-5)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match='planes.tif: expected an image that cv2 reads'):
        load(path, color_type=3)
