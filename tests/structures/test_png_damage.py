"""Damage in PNG files."""

import io

import numpy as np
import pytest
from PIL import Image

from mmseg_instancenet.datasets.label_images.mask_files import read_mask
from mmseg_instancenet.datasets.transforms import LoadImageFromFile, LoadInstanceIds
from mmseg_instancenet.structures import is_damaged_png

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 9, (40, 50)).astype(np.uint16)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'PNG', dpi=(72, 72))
    return file.getvalue()


def load(path) -> np.ndarray:
    settings = dict(imdecode_backend='pillow', color_type='unchanged')
    return LoadImageFromFile(**settings)({'img_path': str(path)})['img']


def load_ids(path) -> np.ndarray:
    results = LoadInstanceIds('labels')({'img_path': 'a.png', 'instance_map_path': str(path)})
    return results['gt_instance_map']


READERS = (read_mask, load, load_ids)


def test_a_changed_bit_is_found_by_every_reader(tmp_path):
    """Pillow reads other labels from one file in seven."""
    content, path = png(LABELS), tmp_path / 'mask.png'
    assert not is_damaged_png(content)
    refused, places = 0, range(8, len(content), 7)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(RNG.integers(8))
        path.write_bytes(damaged)
        for read in READERS:
            try:
                values = read(path)
            except ValueError as error:
                assert 'mask.png' in str(error)
                refused += 1
            else:  # the resolution alone is damaged, which nobody needs
                np.testing.assert_array_equal(values, LABELS)
    assert refused > 0.9 * len(READERS) * len(places)


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9, 0.99])
def test_a_part_is_damaged(share):
    content = png(LABELS)
    assert is_damaged_png(content[: int(share * len(content))])


def test_other_formats_are_not_judged():
    assert not is_damaged_png(b'') and not is_damaged_png(b'II*\0' + bytes(100))
