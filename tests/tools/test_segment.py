"""tools/segment.py: image files in, numbers and drawings out."""

import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_instancenet.apis import example_image, init_model, segment_image, shipped

TOOL = Path(__file__).parents[2] / 'tools/segment.py'
CONFIGS = TOOL.parents[1] / 'configs'
EXAMPLE = example_image()


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """``nuclei.py`` and ``nuclei.pth``: a narrow, untrained network whose class scores are those of a nucleus everywhere."""
    folder = tmp_path_factory.mktemp('shipped')
    config = Config.fromfile(CONFIGS / 'instancenet_unet_dsb2018.py')
    config.model.backbone.base_channels = 4
    config.model.decode_head.update(in_channels=4, channels=8)
    init_default_scope('mmseg')  # a fixture of a module comes before that of conftest.py
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    torch.nn.init.zeros_(model.decode_head.conv_seg.weight)
    model.decode_head.conv_seg.bias.data = torch.tensor([0.0, 1.0])
    config.dump(folder / 'nuclei.py')
    torch.save(
        {'meta': {'dataset_meta': {'classes': ['nucleus']}}, 'state_dict': model.state_dict()}, folder / 'nuclei.pth'
    )
    return folder


def segment(monkeypatch, *arguments) -> None:
    """Runs the tool in this process."""
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name='__main__')


def stretched(image: np.ndarray) -> np.ndarray:
    """What a display shall show of an image: percentiles 1 and 99.8 become 0 and 255."""
    low, high = np.percentile(image, [1, 99.8])
    return (255 * ((image - low) / (high - low)).clip(0, 1)).round().astype(np.uint8)


@pytest.mark.parametrize('by_name', [True, False])
def test_each_image_gets_a_line_and_a_drawing(folder, tmp_path, monkeypatch, capsys, by_name):
    small = tmp_path / 'small.tif'  # sixteen bits, of which few are used
    rng = np.random.default_rng(0)
    cv2.imwrite(str(small), rng.integers(300, 900, (64, 96)).astype(np.uint16))
    if by_name:
        monkeypatch.setattr(shipped, 'FOLDER', folder)
        chosen = []
    else:
        chosen = ['--config', folder / 'nuclei.py', '--checkpoint', folder / 'nuclei.pth']
    segment(monkeypatch, small, EXAMPLE, *chosen, '--out', tmp_path / 'new/drawings')
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith(' objects')]

    model = init_model(str(folder / 'nuclei.py'), str(folder / 'nuclei.pth'), device='cpu')
    for line, path, (height, width), scale in zip(lines, (small, EXAMPLE), ((64, 96), (256, 256)), (4, 1), strict=True):
        instances = segment_image(model, path).pred_instance_map.data[0].numpy()
        assert line == f'{path}: {len(np.unique(instances[instances > 0]))} objects'
        drawing = cv2.imread(str(tmp_path / 'new/drawings' / f'{path.stem}_instances.png'))
        assert drawing.shape == (24 + scale * height, 2 * scale * width + 4, 3)
        shown = drawing[24::scale, : scale * width : scale]
        expected = stretched(cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH))
        assert np.abs(shown.astype(int) - expected).max() <= 1
        beside = drawing[24::scale, scale * width + 4 :: scale]
        assert (beside[instances == 0] == shown[instances == 0]).all()
        assert instances.any() and (beside[instances > 0] != shown[instances > 0]).any(axis=1).mean() > 0.9


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nothing.png'], 'expected image files, got what is no file: nothing.png'),
        ([EXAMPLE, '--config', 'a.py'], 'expected --config and --checkpoint together, got one'),
        ([EXAMPLE, '--config', 'a.py', '--checkpoint', 'a.pth', '--model', 'nuclei'], 'expected --model or --config, got both'),
        ([EXAMPLE, EXAMPLE], 'got several for nuclei_example_instances.png'),
    ],
)  # fmt: skip
def test_wrong_arguments_get_a_line(monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit):
        segment(monkeypatch, *arguments)
    assert message in capsys.readouterr().err


def test_a_model_that_is_not_shipped(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, 'FOLDER', folder)
    with pytest.raises(SystemExit, match=r"shipped model \(nuclei\) or a config file, got 'leaves'"):
        segment(monkeypatch, EXAMPLE, '--model', 'leaves', '--out', tmp_path)


def test_a_file_that_is_no_image(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, 'FOLDER', folder)
    path = tmp_path / 'text.png'
    path.write_text('no image')
    with pytest.raises(SystemExit, match=re.escape(f'expected an image that OpenCV can read, got {path}')):
        segment(monkeypatch, path, '--out', tmp_path)


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        (['a/1.png', 'b/2.tif'], ['1_instances.png', '2_instances.png']),
        (['a/1.png', 'b/1.png'], ['a/1_instances.png', 'b/1_instances.png']),
        (['a/1.png', 'a/1.tif'], ['1.tif_instances.png', '1_instances.png']),
        (
            ['1.tif', 'b/c/1.tif', 'b/1.jpg'],
            ['1.tif_instances.png', 'b/1.jpg_instances.png', 'b/c/1.tif_instances.png'],
        ),
    ],
)
def test_images_of_one_name_get_a_drawing_each(folder, tmp_path, monkeypatch, names, expected):
    monkeypatch.setattr(shipped, 'FOLDER', folder)
    for name in names:
        (tmp_path / 'images' / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(tmp_path / 'images' / name), np.random.default_rng(0).integers(0, 99, (32, 32)).astype(np.uint8)
        )
    segment(monkeypatch, *(tmp_path / 'images' / name for name in names), '--out', tmp_path / 'drawings')
    found = sorted(str(path.relative_to(tmp_path / 'drawings')) for path in (tmp_path / 'drawings').rglob('*.png'))
    assert found == sorted(expected)
