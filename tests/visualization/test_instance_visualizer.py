"""``InstanceLocalVisualizer``: the place of its drawings, and the colours of the data set."""

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, PixelData
from mmengine.visualization import Visualizer
from mmseg.registry import VISUALIZERS

from mmseg_instancenet.visualization import draw_panel

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)
PALETTE = [(10, 20, 30), (40, 50, 60)]


@pytest.fixture
def sample() -> BaseDataElement:
    return BaseDataElement(pred_sem_seg=PixelData(data=torch.arange(3).repeat_interleave(16).expand(1, 32, 48)))


def build(tmp_path, **settings):
    backends = [dict(type='LocalVisBackend'), dict(type='LocalVisBackend', name='second', img_save_dir='more')]
    config = dict(type='InstanceLocalVisualizer', vis_backends=backends, save_dir=str(tmp_path), name=str(tmp_path))
    return VISUALIZERS.build({**config, **settings})


def test_every_backend_gets_the_drawing(tmp_path, sample):
    visualizer = build(tmp_path)
    visualizer.dataset_meta = {'classes': ('a', 'b'), 'palette': PALETTE}
    visualizer.add_datasample('val_1', IMAGE, sample, step=7)
    expected = draw_panel(IMAGE, sample, PALETTE)
    for folder in ('vis_image', 'more'):
        np.testing.assert_array_equal(cv2.imread(f'{tmp_path}/vis_data/{folder}/val_1_7.png')[..., ::-1], expected)
    np.testing.assert_array_equal(visualizer.get_image(), expected)
    # The class map is the second of two columns; one pixel of the image is eight of it.
    shown = expected[24:, 388:][4::8, 4::8]
    assert [shown[0, column].tolist() for column in (8, 24, 40)] == [[0, 0, 0], *map(list, PALETTE)]


def test_joined_data_sets_have_the_colours_of_the_first(tmp_path, sample):
    visualizer = build(tmp_path)
    visualizer.dataset_meta = [{'palette': PALETTE}, {'palette': PALETTE[::-1]}]
    visualizer.add_datasample('x', IMAGE, sample)
    np.testing.assert_array_equal(visualizer.get_image(), draw_panel(IMAGE, sample, PALETTE))


def test_each_process_writes_its_files_and_the_first_alone_to_the_backends(tmp_path, sample, monkeypatch):
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: 1)
    visualizer = build(tmp_path)
    visualizer.dataset_meta = {'palette': PALETTE}
    visualizer.add_datasample('x', IMAGE, sample)
    assert not list(tmp_path.rglob('*.png'))
    visualizer.add_datasample('x', IMAGE, sample, out_file=str(tmp_path / 'new/x.png'))
    assert list(tmp_path.rglob('*.png')) == [tmp_path / 'new/x.png']
    drawn = mmcv.imread(tmp_path / 'new/x.png', channel_order='rgb')
    np.testing.assert_array_equal(drawn, draw_panel(IMAGE, sample, PALETTE))


def test_a_window_shows_the_drawing(tmp_path, sample, monkeypatch):
    shown = []
    monkeypatch.setattr(Visualizer, 'show', lambda self, image, win_name, wait_time: shown.append((image, win_name)))
    visualizer = build(tmp_path)
    visualizer.add_datasample('name', IMAGE, sample, show=True, draw_pred=False)
    ((image, name),) = shown
    assert name == 'name'
    np.testing.assert_array_equal(image, draw_panel(IMAGE, BaseDataElement()))
    visualizer.add_datasample('name', IMAGE)
    np.testing.assert_array_equal(visualizer.get_image(), image)
