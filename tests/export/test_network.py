"""model.onnx: the parts that replace others for the export, the files as a whole beside the model, and refusals."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from exported_program import load
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.models.utils import Upsample
from mmseg.registry import MODELS
from PIL import Image
from torch import nn

from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.export import check_exportable, compare_instances, export_settings, write_exported
from mmseg_instancenet.export.comparison import Instances
from mmseg_instancenet.export.network import (
    _AveragePool,
    _Axis,
    _Enlarge,
    _EvenlyPadded,
    _resize_eight_bits,
    _with_symbolic_sizes,
)
from mmseg_instancenet.structures import MapPlacement

CONFIGS = Path(__file__).parents[2] / 'configs'
SIZES = ((32, 40), (33, 47), (50, 17))


@pytest.mark.parametrize(('size', 'new'), [((50, 70), (37, 52)), ((31, 20), (90, 58)), ((1, 40), (1, 513))])
def test_resize_of_eight_bits_is_opencvs(size, new):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    positions = [torch.from_numpy((np.arange(n) + 0.5) * (old / n)).float() for n, old in zip(new, size, strict=True)]
    resized = _resize_eight_bits(torch.from_numpy(image).permute(2, 0, 1).float(), *positions)
    np.testing.assert_array_equal(resized.permute(1, 2, 0).numpy(), cv2.resize(image, new[::-1]))


@pytest.mark.parametrize('size', SIZES)
def test_replaced_modules_compute_the_same(size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    for pool in (2, 3, (6, 4)):
        torch.testing.assert_close(
            _AveragePool(pool if isinstance(pool, tuple) else (pool, pool))(x), nn.AdaptiveAvgPool2d(pool)(x)
        )
    torch.testing.assert_close(
        _Enlarge(2, 'bilinear', False)(x), Upsample(scale_factor=2, mode='bilinear', align_corners=False)(x)
    )
    model = nn.Sequential(
        nn.AdaptiveAvgPool2d(3), nn.AdaptiveAvgPool2d(1), Upsample(scale_factor=2), Upsample(scale_factor=1.5)
    )
    kinds = [type(module).__name__ for module in _with_symbolic_sizes(model)]
    assert kinds == ['_AveragePool', 'AdaptiveAvgPool2d', '_Enlarge', 'Upsample']


@pytest.mark.parametrize(('kernel', 'stride', 'dilation'), [(3, 2, 1), (5, 2, 1), (3, 1, 2), (1, 2, 1)])
def test_padding_as_tensorflows(kernel, stride, dilation):
    layers = pytest.importorskip('timm.layers', reason="timm is not installed: pip install -e '.[pretrained]'")
    convolution = layers.Conv2dSame(3, 4, kernel, stride, dilation=dilation)
    for size in ((32, 64), (2, 4)):
        x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(_EvenlyPadded(convolution)(x), convolution(x))


@pytest.mark.parametrize(
    ('image', 'resized', 'padded', 'cells'), [(37, 30, 32, 8), (37, 37, 48, 48), (100, 513, 544, 136), (9, 2, 32, 8)]
)
def test_places_are_those_of_map_placement(image, resized, padded, cells):
    placement = MapPlacement((image, 1), (resized, 1), (padded, 1))
    axis, device = _Axis(image, resized, padded, cells), torch.device('cpu')
    pixels, inside = placement.map_to_image(0, cells, device)
    assert axis.inside() == max(1, int(inside.sum()))
    assert axis.pixels().tolist() == pixels[: axis.inside()].tolist()
    torch.testing.assert_close(axis.positions(), placement.image_to_map(0, cells, device)[0])


def test_compare_instances():
    labels = np.zeros((10, 40), int)
    labels[:, :10], labels[:, 10:20], labels[:, 20:30] = 1, 2, 3
    other = labels.copy()
    other[0, 10:12], other[other == 3] = 0, 0  # the second is .98 of it, the third has gone
    first = Instances(labels, ['cat', 'dog', 'dog'], [0.9, 0.8, 0.7])
    same = compare_instances(first, Instances(other, ['cat', 'dog'], [0.9, 0.3]))
    assert same == (3, 1, 0.0, 0, 0.5)
    assert compare_instances(first, first) == (3, 3, 1.0, 0, 0.0)
    assert compare_instances(first, Instances(labels, ['dog', 'dog', 'dog'], [0.1, 0.8, 0.7])) == (3, 2, 1.0, 1, 0.0)
    nothing = Instances(labels * 0, [], [])
    assert compare_instances(nothing, nothing) == (0, 0, 1.0, 0, 0.0)
    assert compare_instances(nothing, first) == (3, 0, 0.0, 0, 0.0)


def config_of_nuclei() -> Config:
    config = Config.fromfile(CONFIGS / 'instancenet_unet_dsb2018.py')
    config.model.backbone.base_channels = 4
    config.model.decode_head.update(in_channels=4, channels=8)
    config.model.grouper.min_size = 3
    return config


def built(config: Config) -> nn.Module:
    model = MODELS.build(config.model)
    model.dataset_meta = {'classes': ('nucleus',)}
    return model


@pytest.fixture(scope='module')
def exported(tmp_path_factory) -> tuple[InstanceInferencer, Path]:
    """A narrow, untrained network for nuclei, with class scores and seeds that vary; and the folder of its files."""
    pytest.importorskip('onnxscript', reason="onnxscript is not installed: pip install -e '.[export]'")
    pytest.importorskip('onnxruntime', reason="onnxruntime is not installed: pip install -e '.[export]'")
    if tuple(map(int, torch.__version__.split('+')[0].split('.')[:2])) < (2, 6):
        pytest.skip(f'torch {torch.__version__} has no exporter for networks at any sizes')
    folder = tmp_path_factory.mktemp('exported')
    init_default_scope('mmseg')  # a fixture of a module comes before that of conftest.py
    config = config_of_nuclei()
    torch.manual_seed(6)  # with both classes in the class maps
    model = built(config)
    model.init_weights()
    model.decode_head.convs[0].bn.bias.data.fill_(1.0)  # no pixel without features, whose seeds would be equal
    nn.init.normal_(model.decode_head.conv_seg.weight)
    nn.init.normal_(model.decode_head.conv_embedding.weight)
    model.decode_head.conv_embedding.bias.data = torch.tensor([0.0, 0.0, 2.0, 2.0])  # x, y, bandwidth, seed
    model.instance_scorer.weight.copy_(torch.linspace(-0.3, 0.5, 9))
    torch.save({'meta': {'dataset_meta': model.dataset_meta}, 'state_dict': model.state_dict()}, folder / 'model.pth')
    inferencer = InstanceInferencer(config, folder / 'model.pth', device='cpu')
    write_exported(inferencer.model, inferencer.cfg, folder / 'files/model.onnx')
    return inferencer, folder / 'files'


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> list[Path]:
    """Noise of different sizes: colours of 8 bits, with transparency, grey of 8 and 16 bits."""
    folder, rng = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for name, shape, kind in (
        ('rgb.png', (32, 40, 3), np.uint8),
        ('rgba.png', (33, 47, 4), np.uint8),
        ('grey.png', (50, 17), np.uint8),
        ('deep.tif', (40, 40), np.uint16),
    ):
        values = cv2.GaussianBlur(rng.random(shape).astype(np.float32), (0, 0), 2)
        values = (values - values.min()) / (values.max() - values.min()) * (4000 if kind == np.uint16 else 255)
        cv2.imwrite(str(folder / name), values.astype(kind))
    return sorted(folder.iterdir())


def test_the_files_find_the_objects_of_the_model(exported, images):
    inferencer, folder = exported
    model = load('predict', folder).Model(folder / 'model.onnx')
    found = 0
    for path in images:
        result = inferencer(str(path))
        labels, objects = model(path)
        difference = compare_instances(
            Instances(result.labels, result.classes, result.scores.tolist()),
            Instances(labels, [row['class'] for row in objects], [row['score'] for row in objects]),
        )
        assert difference.instances == difference.same == len(result) and difference.score < 1e-4
        found += len(result)
        pixels = np.asarray(Image.open(path).convert('RGB') if path.name.startswith('rgb') else Image.open(path))
        np.testing.assert_array_equal(model(pixels)[0], labels)
    assert found > 10


ISOLATED = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'torch', 'mmengine', 'mmseg', 'mmcv', 'mmdet', 'cv2', 'scipy', 'skimage', 'mmseg_instancenet'}:
            raise AssertionError(f'{name} is imported')

sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition('/')[0])
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_the_program_runs_without_torch_and_openmmlab(exported, images, tmp_path):
    inferencer, folder = exported
    command = [
        sys.executable,
        '-c',
        ISOLATED,
        folder / 'predict.py',
        *images,
        '--out',
        tmp_path / 'out',
        '--threads',
        '1',
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for path in images:
        result = inferencer(str(path))
        assert f'{path}: {len(result)} objects\n' in done.stdout
        labels = np.asarray(Image.open(tmp_path / 'out' / f'{path.stem}.png'))
        assert labels.dtype == np.uint16
        np.testing.assert_array_equal(labels, result.labels)
        with open(tmp_path / 'out' / f'{path.stem}.csv', encoding='utf-8', newline='') as file:
            rows = list(csv.DictReader(file))
        assert [int(row['area']) for row in rows] == result.areas.tolist()
        assert [row['class'] for row in rows] == result.classes
        np.testing.assert_allclose([float(row['centroid_x']) for row in rows], result.centroids[:, 0])


def test_the_script_of_the_page(exported, images, tmp_path):
    """docs/export.md's script, as it stands there: fifteen lines, beside the files."""
    _, folder = exported
    (script,) = re.findall(
        r'```python\n(# measure\.py.*?)```', (CONFIGS.parent / 'docs/export.md').read_text(), re.DOTALL
    )
    assert len(script.splitlines()) <= 17
    (folder / 'measure.py').write_text(script)
    command = [sys.executable, '-c', ISOLATED, folder / 'measure.py', images[0].parent, tmp_path / 'out']
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / 'out/objects.csv', encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    for path in images:
        labels = np.asarray(Image.open(tmp_path / 'out' / f'{path.name}.tif'))
        areas = [int(row['area']) for row in rows if row['image'] == path.name]
        assert areas and areas == np.bincount(labels.ravel())[1:].tolist()


def test_bad_images_are_refused(exported, tmp_path):
    _, folder = exported
    predict = load('predict', folder)
    model = predict.Model(folder / 'model.onnx')
    cv2.imwrite(str(tmp_path / 'deep.png'), np.zeros((8, 8, 3), np.uint16))
    with pytest.raises(ValueError, match=r'deep.png: expected colours of 8 bits, got 16'):
        model(tmp_path / 'deep.png')
    with pytest.raises(ValueError, match=r'grey or of 3 channels, got \(8, 8, 5\) uint8'):
        model(np.zeros((8, 8, 5), np.uint8))
    with pytest.raises(ValueError, match='expected finite pixels'):
        model(np.full((8, 8), np.nan))
    settings = {**model.settings, 'percentiles': None}
    with pytest.raises(ValueError, match='expected 8 bits as in the training, got uint16 up to 300'):
        predict.inputs(settings, np.full((8, 8), 300, np.uint16))
    scaled = predict.inputs({**settings, 'max_value': 4095}, np.full((8, 8), 2048, np.uint16))
    assert np.unique(scaled['image']).tolist() == [128.0]


def test_nothing_of_this_machine_is_in_the_file(exported):
    inferencer, folder = exported
    content = (folder / 'model.onnx').read_bytes()
    assert str(Path(torch.__file__).parents[2]).encode() not in content and str(CONFIGS.parent).encode() not in content
    onnx = pytest.importorskip('onnx')
    (entry,) = onnx.load(folder / 'model.onnx').metadata_props
    assert json.loads(entry.value) == export_settings(inferencer.model, inferencer.cfg)


def refused(changes: dict, message: str) -> None:
    config = config_of_nuclei()
    config.merge_from_dict(changes)
    with pytest.raises(ValueError, match=message):
        export_settings(built(config), config)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model.test_cfg.mode': 'slide', 'model.test_cfg.crop_size': 64, 'model.test_cfg.stride': 32}, "mode: expected 'whole'"),
        ({'model.test_cfg.classes': 'ground_truth'}, "classes: expected 'predicted'"),
        ({'model.grouper.max_instances': 5}, 'max_instances: expected None for an export, got 5'),
        (
            {'model.data_preprocessor.pad_size_divisor': None, 'model.data_preprocessor.test_cfg': {'size': (64, 64)}},
            'expected size_divisor or nothing for an export, got size=',
        ),
        ({'test_dataloader.dataset.pipeline.1.type': 'PackInstanceMaps'}, 'LoadImageFromFile, then'),
        ({'test_dataloader.dataset.pipeline.0.to_float32': True}, 'to_float32: expected False'),
    ],
)  # fmt: skip
def test_settings_that_the_files_do_not_have_are_refused(changes, message):
    refused(changes, message)


def test_models_that_the_files_do_not_have_are_refused():
    config = config_of_nuclei()
    config.model.group_scorer, config.model.grouper = None, {'type': 'ClassGrouping'}
    with pytest.raises(ValueError, match='MeanShiftGrouping or SeedGrouping for an export, got ClassGrouping'):
        check_exportable(built(config))
    for name, message in (
        ('recurrent-embedding_proposals_digits', 'got ProposalSegmentor: masks of proposals overlap'),
        ('instancenet_digits_mask2former', 'model.decode_head: expected one head .* got Mask2FormerHead'),
    ):
        with pytest.raises(ValueError, match=message):
            check_exportable(built(Config.fromfile(CONFIGS / f'{name}.py')))
