"""Paths of drawings."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from mmseg_instancenet.visualization import OutputPaths, image_folder_of


@pytest.mark.parametrize(
    'wrap', [lambda *sets: SimpleNamespace(datasets=sets), lambda first, _: SimpleNamespace(dataset=first)]
)
def test_joined_and_wrapped_data_sets(tmp_path, wrap):
    sets = [SimpleNamespace(data_prefix={'img': str(tmp_path / name / 'images')}) for name in ('a', 'b')]
    dataset = wrap(*sets)
    folder = image_folder_of(dataset)
    paths = [OutputPaths('out', folder).of(tmp_path / name / 'images/c/1.png').as_posix() for name in ('a', 'b')]
    if hasattr(dataset, 'datasets'):
        assert paths == ['out/a/images/c/1.png', 'out/b/images/c/1.png']
    else:
        assert paths == ['out/c/1.png', 'out/b/images/c/1.png']


@pytest.mark.parametrize('prefix', [{'img': ''}, {'img': './'}, {'img': 'images/..'}])
def test_an_image_folder_that_is_the_current_one(prefix):
    paths = OutputPaths('out', image_folder_of(SimpleNamespace(data_prefix=prefix)))
    assert [paths.of(name).as_posix() for name in ('a/1.png', './b/1.png')] == ['out/a/1.png', 'out/b/1.png']


NAMES = [
    *(
        '1.png',
        '1.tif',
        '1.tiff',
        '1.jpg',
        '1',
        '1.PNG',
        '1.tif.png',
        '1_2.png',
        'a.b/1.png',
        'a/1.png',
        'a/b/1.png',
    ),
    *(
        '../1.png',
        '../a/1.png',
        '../../a/1.png',
        '/1.png',
        '/a/1.png',
        '/elsewhere/x/1.tif',
        'a/../b/1.png',
        'ä ö/1.png',
    ),
]


@pytest.mark.parametrize('seed', range(4))
def test_every_name_gets_its_own_file_inside_the_folder(tmp_path, seed):
    names = np.random.default_rng(seed).permutation(NAMES).tolist()
    paths = OutputPaths(tmp_path / 'out', 'data/images')
    images = [os.path.join('data/images', name) for name in names]
    found = [paths.of(image) for image in images]
    assert len(set(found)) == len(names)
    assert all(path.resolve().is_relative_to((tmp_path / 'out').resolve()) and path.suffix == '.png' for path in found)
    assert [paths.of(os.path.abspath(image)) for image in images] == found


def test_a_drawing_never_overwrites_its_image(tmp_path):
    for name in ('1.png', 'a/1.png'):
        with pytest.raises(ValueError, match='does not overwrite its image'):
            OutputPaths(tmp_path, tmp_path).of(tmp_path / name)
    assert OutputPaths(tmp_path, tmp_path).of(tmp_path / '1.jpg') == tmp_path / '1.jpg.png'
