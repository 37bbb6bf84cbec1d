"""Sizes in the headers of images, and their limit."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from image_bombs import BOMBS
from PIL import Image

from mmseg_instancenet.datasets.annotations.image_checks import read_header
from mmseg_instancenet.datasets.label_images.mask_files import FaultyMaskError, read_mask
from mmseg_instancenet.datasets.transforms import LoadImageFromFile
from mmseg_instancenet.outputs import open_windows, read_pixels
from mmseg_instancenet.structures import TooManyPixelsError, check_pixel_count, decode_tiff, max_pixels
from mmseg_instancenet.structures.image_headers import stored_size
from mmseg_instancenet.visualization import read_for_display

SIDE = 60_000


@pytest.mark.parametrize('ending', ['.png', '.jpg', '.tif', '.bmp', '.webp', '.ppm'])
@pytest.mark.parametrize('size', [(1, 7), (31, 17), (200, 300)])
def test_sizes_are_those_of_the_decoded_image(ending, size):
    content = cv2.imencode(ending, np.zeros((*size, 3), np.uint8))[1].tobytes()
    assert stored_size(content) == size
    assert stored_size(b'text' + content) is None


@pytest.mark.parametrize('ending', BOMBS)
def test_an_image_bomb_is_refused_by_every_reader_before_it_is_decoded(tmp_path, ending):
    path = tmp_path / f'bomb.{ending}'
    path.write_bytes(BOMBS[ending](SIDE, SIDE))
    assert stored_size(path.read_bytes()) == (SIDE, SIDE)
    loaders = [LoadImageFromFile(imdecode_backend=backend) for backend in ('cv2', 'pillow', 'tifffile')]
    readers = [lambda load=load: load({'img_path': str(path)}) for load in loaders]
    readers += [
        lambda: read_pixels(path),
        lambda: read_for_display(path),
        lambda: open_windows(path, LoadImageFromFile()),
    ]
    for read in readers:
        with pytest.raises(
            TooManyPixelsError, match=rf'bomb.{ending}: .* 1,073,741,824 .* 60000 x 60000 .*OPENCV_IO_MAX'
        ) as error:
            read()
        assert '3600000000' in str(error.value)
    with pytest.raises(FaultyMaskError, match='1,073,741,824 pixels'):
        read_mask(path)
    assert read_header(path.read_bytes()).size == (SIDE, SIDE)


@pytest.mark.parametrize('text, expected', [('', 2**30), ('10000', 10_000), ('2kb', 2048), ('3MB', 3 * 2**20)])
def test_the_limit_is_opencvs(monkeypatch, text, expected):
    monkeypatch.setenv('OPENCV_IO_MAX_IMAGE_PIXELS', text)
    assert max_pixels() == expected


def test_the_limit_is_a_number_and_can_be_raised(monkeypatch):
    content = cv2.imencode('.png', np.zeros((20, 30), np.uint8))[1].tobytes()
    check_pixel_count(content, 'a.png')
    monkeypatch.setenv('OPENCV_IO_MAX_IMAGE_PIXELS', '599')
    with pytest.raises(
        TooManyPixelsError, match='a.png: expected an image of at most 599 pixels, got a header of 20 x 30'
    ):
        check_pixel_count(content, 'a.png')
    monkeypatch.setenv('OPENCV_IO_MAX_IMAGE_PIXELS', '600')
    check_pixel_count(content, 'a.png')
    monkeypatch.setenv('OPENCV_IO_MAX_IMAGE_PIXELS', 'many')
    with pytest.raises(ValueError, match="expected a number of pixels, got 'many'"):
        check_pixel_count(content, 'a.png')


def test_channels_and_pages_count(monkeypatch):
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((5, 20, 30), np.uint8))
    assert decode_tiff(file.getvalue()).shape == (20, 30, 5)
    monkeypatch.setenv('OPENCV_IO_MAX_IMAGE_PIXELS', '600')
    with pytest.raises(ValueError, match=r'four values for each of 600 pixels, got the shape \(5, 20, 30\)'):
        decode_tiff(file.getvalue())


def test_pillows_own_limit_hides_no_size():
    """A file of 300 million pixels that is a real one: the check of a data set reads its bits and its orientation."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    Image.new('1', (20_000, 15_000)).save(file, 'PNG', exif=exif)
    header = read_header(file.getvalue())
    assert (header.size, header.bits, header.orientation) == ((15_000, 20_000), 1, 6)
