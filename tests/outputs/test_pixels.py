"""Pixels of image files, against the arrays that were written by OpenCV and tifffile."""

import cv2
import numpy as np
import pytest
import tifffile
from image_kinds import write_kinds

from mmseg_instancenet.datasets.transforms import LoadImageFromFile
from mmseg_instancenet.outputs import read_pixels
from mmseg_instancenet.visualization import read_for_display


def pixels(channels: int, dtype=np.uint8) -> np.ndarray:
    return (np.random.default_rng(channels).random((6, 7, channels)) * 200).astype(dtype)


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_tiff_of_any_number_of_channels(tmp_path, channels, dtype):
    written = pixels(channels, dtype)
    kind = 'rgb' if channels == 3 else 'minisblack'
    tifffile.imwrite(
        tmp_path / 'a.tif', written.squeeze(), photometric=kind, planarconfig='contig' if channels > 1 else None
    )
    found = read_pixels(tmp_path / 'a.tif')
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, written)


def test_tiff_in_planes_and_in_pages(tmp_path):
    written = pixels(3)
    tifffile.imwrite(tmp_path / 'planes.tif', written.transpose(2, 0, 1), photometric='rgb', planarconfig='separate')
    np.testing.assert_array_equal(read_pixels(tmp_path / 'planes.tif'), written)
    tifffile.imwrite(tmp_path / 'pages.tif', written.transpose(2, 0, 1), photometric='minisblack')
    np.testing.assert_array_equal(read_pixels(tmp_path / 'pages.tif'), written[..., :1])
    tifffile.imwrite(tmp_path / 'bits.tif', written[..., 0] > 100)
    np.testing.assert_array_equal(read_pixels(tmp_path / 'bits.tif')[..., 0], 255 * (written[..., 0] > 100))


@pytest.mark.parametrize(
    'ending', ['.png', '.tif']
)  # OpenCV's tif is compressed in a way that tifffile alone does not read
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_colour_is_red_green_blue(tmp_path, ending, dtype):
    written = pixels(3, dtype)
    cv2.imwrite(str(tmp_path / f'a{ending}'), written[..., ::-1])
    np.testing.assert_array_equal(read_pixels(tmp_path / f'a{ending}'), written)
    cv2.imwrite(str(tmp_path / f'grey{ending}'), written[..., 0])
    np.testing.assert_array_equal(read_pixels(tmp_path / f'grey{ending}'), written[..., :1])


def test_transparency_of_png_is_left_out(tmp_path):
    written = pixels(4)
    cv2.imwrite(str(tmp_path / 'a.png'), written)
    np.testing.assert_array_equal(read_pixels(tmp_path / 'a.png'), written[..., 2::-1])


@pytest.mark.parametrize('content', [b'', b'no image', b'II*\0 and no more'])
def test_what_is_no_image(tmp_path, content):
    path = tmp_path / 'a.tif'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf'a\.tif: expected an image .* got {len(content)} bytes'):
        read_pixels(path)


def test_a_width_that_opencv_raises_an_error_of_its_own_for(tmp_path):
    """Its limit of a side, 2^20, within that of all pixels; the widths of a BMP are the bytes 18 to 21."""
    content = bytearray(cv2.imencode('.bmp', pixels(3))[1].tobytes())
    content[18:22] = (2**21).to_bytes(4, 'little')
    path = tmp_path / 'wide.bmp'
    path.write_bytes(content)
    for read in (read_pixels, read_for_display, lambda path: LoadImageFromFile()({'img_path': str(path)})):
        with pytest.raises(ValueError, match='wide.bmp'):
            read(path)


def test_every_kind_of_file_has_the_same_colours_for_network_measurements_and_drawings(tmp_path):
    """Transparency of TIFF, which may be a channel of measurement, stays in the measurements."""
    for name, colours_HW3 in write_kinds(tmp_path).items():
        path = str(tmp_path / name)
        measured_HWC = read_pixels(path)
        if 'transparent.tif' in name:
            assert measured_HWC.shape[2] == (2 if 'grey' in name else 4)
            measured_HWC = measured_HWC[..., :-1]
        for image in (LoadImageFromFile()({'img_path': path})['img'][..., ::-1], measured_HWC, read_for_display(path)):
            assert image.shape[:2] == colours_HW3.shape[:2], name
            assert np.abs(image.astype(int) - colours_HW3).max() <= 1, name  # two decoders of JPEG round differently
