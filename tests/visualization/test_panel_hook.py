"""``PanelHook``: the paths of the panels, and the position of a window in them."""

import os
from types import SimpleNamespace

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from mmseg_instancenet.visualization import OutputPaths, PanelHook, embeddings_to_color
from mmseg_instancenet.visualization.output_paths import image_folder_of
from mmseg_instancenet.visualization.panel_hook import draw_panel

SIZE = (32, 48)


def result_of(path, box=None) -> tuple[DetDataSample, np.ndarray]:
    """A data sample after testing, and its embeddings (3, 4, 4)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*SIZE, 3), 90, np.uint8))
    ids = torch.zeros(1, *SIZE, dtype=torch.long)
    ids[:, 8:24, 16:40] = 1
    embeddings = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    sample = DetDataSample(metainfo={'img_path': str(path)})
    sample.pred_sem_seg = PixelData(data=ids)
    sample.pred_instances = InstanceData(scores=torch.ones(1))
    sample.set_field(PixelData(data=ids), 'pred_instance_map', dtype=PixelData)
    pixel_data = PixelData(metainfo={} if box is None else {'image_box': box}, data=torch.from_numpy(embeddings))
    sample.set_field(pixel_data, 'pred_embeddings', dtype=PixelData)
    return sample, embeddings


def embedding_column(panel_HW3: np.ndarray) -> np.ndarray:
    """The third of four images, at the image's own size."""
    shown = panel_HW3[24:, 2 * 388 : 2 * 388 + 384]
    return shown[4::8, 4::8]


def test_the_embedding_of_a_window_lies_where_the_window_does(tmp_path):
    sample, embeddings = result_of(tmp_path / 'image.png', box=(0, 16, 16, 48))
    shown = embedding_column(draw_panel(sample, []))
    foreground = np.zeros((4, 4), bool)
    foreground[2:, :3] = True  # rows 8 .. 16 and columns 16 .. 40, in cells of 4 x 8
    expected = embeddings_to_color(embeddings, foreground).repeat(4, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(shown[:16, 16:], expected)
    assert (shown[16:] == 128).all() and (shown[:, :16] == 128).all()


@pytest.mark.parametrize('box', [None, (0, 0, *SIZE)])
def test_the_embedding_of_the_whole_image_fills_it(tmp_path, box):
    sample, embeddings = result_of(tmp_path / 'image.png', box)
    shown = draw_panel(sample, [])[24:, 2 * 388 : 2 * 388 + 256]
    foreground = np.zeros((4, 4), bool)
    foreground[1:3, 1:3] = True
    np.testing.assert_array_equal(
        shown, embeddings_to_color(embeddings, foreground).repeat(64, axis=0).repeat(64, axis=1)
    )


def panels_of(paths, tmp_path, data_prefix, wrap=lambda dataset: dataset) -> list[str]:
    hook = PanelHook(str(tmp_path / 'panels'))
    dataset = wrap(SimpleNamespace(metainfo={}, data_prefix=data_prefix))
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, outputs=[result_of(path)[0] for path in paths])
    found = sorted((tmp_path / 'panels').rglob('*.png'))
    assert all(mmcv.imread(path).shape[0] == 256 + 24 for path in found)
    assert not list(tmp_path.glob('*.png'))
    return [str(path.relative_to(tmp_path / 'panels')) for path in found]


@pytest.mark.parametrize('key', ['img', 'img_path'])
def test_images_of_one_name_in_two_folders_get_two_panels(tmp_path, key):
    paths = [tmp_path / 'images' / name for name in ('a/1.png', 'b/1.png', '2.png')]
    assert panels_of(paths, tmp_path, {key: f'{tmp_path}/images/'}) == ['2.png', 'a/1.png', 'b/1.png']


def test_images_outside_of_the_image_folder(tmp_path):
    """VOC's json names the photos from where it lies."""
    paths = [tmp_path / 'VOC/JPEGImages/1.png', tmp_path / 'SBD/img/1.png']
    names = panels_of(paths, tmp_path, {'img': f'{tmp_path}/json/'})
    assert names == ['SBD/img/1.png', 'VOC/JPEGImages/1.png']


def test_a_data_set_without_an_image_folder(tmp_path):
    assert panels_of([tmp_path / 'images/1.png'], tmp_path, {}) == ['1.png']
    paths = [tmp_path / 'images' / name for name in ('1.png', '1.jpg', '../other/1.png', 'below/1.png')]
    assert panels_of(paths, tmp_path, {}) == ['1.jpg.png', '1.png', 'below/1.png', 'other/1.png']


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


def test_data_sets_joined_by_mmdet_have_a_list_of_meta_information(tmp_path):
    sets = [SimpleNamespace(data_prefix={'img': f'{tmp_path}/{name}/'}) for name in ('a', 'b')]
    paths = [tmp_path / 'a/1.png', tmp_path / 'b/1.png']
    found = panels_of(paths, tmp_path, {}, lambda _: SimpleNamespace(metainfo=[{}, {}], datasets=sets))
    assert found == ['a/1.png', 'b/1.png']
