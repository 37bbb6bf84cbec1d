"""MATLAB files: damage and size."""

import io

import numpy as np
import pytest
from scipy.io import savemat

from mmseg_instancenet.datasets.mat_file import load_mat
from mmseg_instancenet.datasets.voc import read_sbd

RNG = np.random.default_rng(0)
MAP = RNG.integers(0, 3, (30, 40)).astype(np.uint8)


def write(content: dict, **settings) -> bytes:
    file = io.BytesIO()
    savemat(file, content, **settings)
    return file.getvalue()


def test_a_changed_bit_of_a_compressed_file_is_found():
    content = write({'map': MAP}, do_compression=True)
    np.testing.assert_array_equal(load_mat(content, 'a.mat')['map'], MAP)
    refused, unnoticed, places = 0, 0, range(128, len(content))  # after the header, which is text
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(RNG.integers(8))
        try:
            loaded = load_mat(bytes(damaged), 'a.mat')
        except ValueError as error:
            assert str(error).startswith(f'a.mat: expected a MATLAB 5 file that is whole, got {len(content)} bytes')
            refused += 1
        else:  # a few bits of Deflate mean nothing; of a type that is not known scipy reads nothing
            unnoticed += 'map' in loaded and not np.array_equal(loaded['map'], MAP)  # of the same checksum by chance
    assert refused > 0.95 * len(places) and unnoticed < 0.01 * len(places)


@pytest.mark.parametrize('share', [0, 0.2, 0.6, 0.99])
@pytest.mark.parametrize('compressed', [False, True])
def test_a_part_of_a_file_is_refused(share, compressed):
    content = write({'map': MAP}, do_compression=compressed)
    with pytest.raises(ValueError, match='a.mat: expected a MATLAB 5 file that is whole'):
        load_mat(content[: int(share * len(content))], 'a.mat')['map']


def test_a_file_that_unpacks_to_more_than_the_limit(monkeypatch):
    content = write({'map': np.zeros((2000, 2000), np.uint8)}, do_compression=True)
    assert len(content) < 10_000
    assert load_mat(content, 'a.mat')['map'].shape == (2000, 2000)
    monkeypatch.setenv('OPENCV_IO_MAX_IMAGE_PIXELS', '500000')
    with pytest.raises(ValueError, match='a.mat: expected at most 2,000,000 bytes .*OPENCV_IO_MAX_IMAGE_PIXELS'):
        load_mat(content, 'a.mat')


@pytest.mark.parametrize(
    'objects, categories', [(MAP.astype(float) + 0.5, [1, 2]), (-MAP.astype(np.int16), [1, 2]), (MAP, ['a', 'b'])]
)
def test_sbd_of_other_values_is_refused(tmp_path, objects, categories):
    (tmp_path / 'x.mat').write_bytes(write({'GTinst': {'Segmentation': objects, 'Categories': np.array(categories)}}))
    with pytest.raises(ValueError, match='x.mat: expected whole numbers from 0 in (Segmentation|Categories), got'):
        read_sbd(tmp_path / 'x.mat')
