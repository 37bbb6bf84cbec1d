"""tools/browse_dataset.py: the drawings show the output of the pipeline."""

import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from label_folders import HEIGHT, WIDTH, folder_of, labels, write
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmseg_instancenet.visualization import draw_instances, draw_sample

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / 'tools/browse_dataset.py'


def browse(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name='__main__')


@pytest.fixture
def config(tmp_path) -> Path:
    folder_of(tmp_path / 'set')
    unlabelled = labels(1)
    unlabelled[:, 36:] = 255
    write(tmp_path / 'set/masks/1.png', unlabelled)
    path = tmp_path / 'config.py'
    path.write_text(
        f'_base_ = {str(REPOSITORY / "configs/instancenet_unet_label-images.py")!r}\n'
        f'data = dict(data_root={str(tmp_path / "set")!r}, ignore_label=255, share=None)\n'
        'train_dataloader = dict(dataset=data)\nval_dataloader = dict(dataset=data)\ntune_dataloader = None\n'
    )
    return path


def test_drawings_of_a_split(tmp_path, monkeypatch, capsys, config):
    """In testing images keep their size: each panel is checked pixel by pixel, at the height of 256 of a panel."""
    browse(monkeypatch, config, '--split', 'val', '--count', 3, '--out', tmp_path / 'out')
    out = capsys.readouterr().out
    assert f'3 drawings in {tmp_path / "out"}, of a data set with 3 images' in out
    ignored = 100 * HEIGHT * 4 / (3 * HEIGHT * WIDTH)
    assert f'instances an image: 3 to 3, median 3; ignored: {ignored:.1f} % of the pixels' in out
    files = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert files == ['0000_0.png', '0001_1.png', '0002_2.png']
    width = round(WIDTH * 256 / HEIGHT)
    for seed, name in enumerate(files):
        drawing = cv2.imread(str(tmp_path / 'out' / name))[24:, :, ::-1]
        assert drawing.shape == (256, 3 * width + 8, 3)
        class_map = drawing[4::8, width + 4 : 2 * width + 4][:, 4::8]
        is_object = labels(seed) > 0
        expected = np.where(is_object, 1, 0)
        if seed == 1:
            expected[:, 36:] = 2
        colours = {0: (0, 0, 0), 2: (128, 128, 128)}
        for value, colour in colours.items():
            assert (class_map[expected == value] == colour).all()
        assert (class_map[expected == 1] != (0, 0, 0)).any(1).all()
        image = cv2.imread(str(tmp_path / f'set/images/{seed}.png'))[..., ::-1].astype(float)
        low, high = np.percentile(image, [1, 99.8])
        shown = drawing[4::8, :width][:, 4::8]
        # Stretched by the pipeline, and once more for the eye, which leaves 0 and 1 where they are to within a percentile.
        np.testing.assert_allclose(shown, 255 * ((image - low) / (high - low)).clip(0, 1), atol=6)


def test_random_steps_are_drawn(tmp_path, monkeypatch, config):
    """Six drawings of three images: those of one image differ in scale, turn and intensity."""
    browse(monkeypatch, config, '--count', 6, '--out', tmp_path / 'out')
    files = sorted((tmp_path / 'out').iterdir())
    assert [path.name for path in files] == [f'{place:04d}_{place // 2}.png' for place in range(6)]
    drawings = [cv2.imread(str(path)) for path in files]
    assert not any(np.array_equal(drawings[index], drawings[index + 1]) for index in (0, 2, 4))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--split', 'tune'], 'has no tune_dataloader: choose another --split'),
        (['--count', '0'], 2),
        (['--cfg-options', 'train_dataloader.dataset.data_root=/nowhere'], FileNotFoundError),
    ],
)
def test_calls_that_cannot_be_meant(tmp_path, monkeypatch, config, options, message):
    error = message if isinstance(message, type) else SystemExit
    with pytest.raises(error) as caught:
        browse(monkeypatch, config, '--out', tmp_path / 'out', *options)
    if isinstance(message, str):
        assert message in str(caught.value)
    elif isinstance(message, int):
        assert caught.value.code == message


def test_maps_of_another_size_than_the_image():
    """As in testing with a resize; a sample without maps has the image alone."""
    sample = DetDataSample()
    image = torch.full((3, 16, 16), 200, dtype=torch.uint8)
    assert draw_sample(image, sample).shape == (280, 256, 3)
    instance_map = np.zeros((32, 32), np.int64)
    instance_map[4:20, 4:20] = 1
    sample.gt_instance_map = PixelData(data=torch.from_numpy(instance_map)[None])
    drawing = draw_sample(image, sample)
    expected = draw_instances(np.full((32, 32, 3), 200, np.uint8), instance_map)
    np.testing.assert_array_equal(drawing[24:, 260:][4::8, 4::8], expected)
