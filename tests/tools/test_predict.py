"""tools/predict.py: image files in, the files of other programs out; broken images, second starts, several processes."""

import json
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
from pycocotools.coco import COCO

from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.engine import mixed_precision

pandas = pytest.importorskip('pandas', reason='pandas is not installed; onedl-mim brings it, except for Python 3.14')

TOOL = Path(__file__).parents[2] / 'tools/predict.py'
CONFIGS = TOOL.parents[1] / 'configs'


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    """The folder of a training: a narrow, untrained network whose class scores are those of a nucleus everywhere."""
    folder = tmp_path_factory.mktemp('run')
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
    meta = {'dataset_meta': {'classes': ['nucleus']}}
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, folder / 'epoch_1.pth')
    return folder


@pytest.fixture
def images(tmp_path) -> Path:
    """Five images of two sizes in two folders, of 8 and of 16 bits."""
    rng = np.random.default_rng(0)
    for name, shape in (('1.png', (32, 40)), ('2.png', (32, 40)), ('3.png', (40, 32)), ('b/1.png', (32, 40))):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (*shape, 3)).astype(np.uint8))
    cv2.imwrite(str(tmp_path / 'images/b/1.tif'), rng.integers(300, 900, (32, 40)).astype(np.uint16))
    return tmp_path / 'images'


@pytest.fixture
def predict(monkeypatch, capsys):
    """Runs the tool in this process; returns its exit status and its output."""

    def run(*arguments, **environment) -> tuple[int, str]:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, str(value))
            with pytest.raises(SystemExit) as end:
                runpy.run_path(str(TOOL), run_name='__main__')
        captured = capsys.readouterr()
        output = captured.out + captured.err
        if isinstance(end.value.code, str):
            return 1, output + end.value.code
        return int(end.value.code), output

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


PATTERN = '**/*.[pt][ni][gf]'


def test_counts_drawings_labels_and_tables(model, images, tmp_path, predict):
    status, output = predict(model, images / '1.png', images / 'b', '--out', tmp_path / 'out', '--device', 'cpu')
    assert status == 0
    results = InstanceInferencer(model, device='cpu')([images / '1.png', images / 'b'])
    for result in results:
        assert f'{result.path}: {len(result)} objects\n' in output
        name = str(Path(result.path).relative_to(images)).removesuffix('.png') + '.png'
        labels = cv2.imread(str(tmp_path / 'out/labels' / name), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(labels, result.labels) and labels.any()
        assert cv2.imread(str(tmp_path / 'out/overlays' / name)).shape == (*result.labels.shape, 3)
    table = pandas.read_csv(tmp_path / 'out/images.csv')
    assert table.image.tolist() == ['1.png', 'b/1.png', 'b/1.tif']
    assert table['count'].tolist() == table.count_nucleus.tolist() == [len(result) for result in results]
    objects = pandas.read_csv(tmp_path / 'out/objects.csv')
    assert objects.area.tolist() == [area for result in results for area in result.areas.tolist()]


def test_formats_and_a_pixel_size(model, images, tmp_path, predict):
    command = (model, images, '--out', tmp_path / 'out', '--formats', 'coco', 'csv', '--pixel-size', '0.5')
    assert predict(*command, '--device', 'cpu')[0] == 0
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'coco.json', 'objects.csv', 'images.csv', 'records'}
    coco, objects = COCO(str(tmp_path / 'out/coco.json')), pandas.read_csv(tmp_path / 'out/objects.csv')
    assert [image['file_name'] for image in coco.imgs.values()] == ['1.png', '2.png', '3.png']
    assert [annotation['area'] for annotation in coco.anns.values()] == objects.area.tolist()
    np.testing.assert_allclose(objects.area_um2, objects.area / 4)


def test_a_broken_image_is_named_and_the_rest_is_done(model, images, tmp_path, predict):
    command = (model, images / PATTERN, '--out', tmp_path / 'out', '--device', 'cpu')
    whole = (images / '2.png').read_bytes()
    (images / '2.png').write_bytes(whole[:200])
    status, output = predict(*command)
    assert status == 1 and re.search(r'2\.png: expected an image', output)
    assert pandas.read_csv(tmp_path / 'out/failed.csv').image.tolist() == ['2.png']
    assert pandas.read_csv(tmp_path / 'out/images.csv').image.tolist() == ['1.png', '3.png', 'b/1.png', 'b/1.tif']
    # The same command again tries it once more, and nothing else.
    (images / '2.png').write_bytes(whole)
    status, output = predict(*command)
    assert status == 0 and '4 of 5 images are done already' in output
    assert re.findall(r'^\S+: \d+ objects$', output, re.MULTILINE) == [
        line for line in output.splitlines() if line.startswith(str(images / '2.png'))
    ]
    assert not (tmp_path / 'out/failed.csv').exists()
    predict(*command[:3], tmp_path / 'at_once', *command[4:])
    assert files_of(tmp_path / 'out') == files_of(tmp_path / 'at_once')


def test_two_processes_write_the_files_of_one(model, images, tmp_path, predict):
    for names in (('RANK', 'WORLD_SIZE'), ('SLURM_PROCID', 'SLURM_STEP_NUM_TASKS')):
        command = (model, images / PATTERN, '--device', 'cpu', '--out', tmp_path / names[0])
        status, output = predict(*command, **{names[0]: 1, names[1]: 2})
        assert status == 0 and 'the other processes have 3 images to do' in output
        assert not (tmp_path / names[0] / 'images.csv').exists()
        assert predict(*command, **{names[0]: 0, names[1]: 2})[0] == 0
    assert predict(*command[:4], '--out', tmp_path / 'one')[0] == 0
    assert files_of(tmp_path / 'RANK') == files_of(tmp_path / 'SLURM_PROCID') == files_of(tmp_path / 'one')


def test_a_second_start_with_other_settings(model, images, tmp_path, predict):
    command = (model, images / '1.png', '--out', tmp_path / 'out', '--device', 'cpu')
    assert predict(*command)[0] == 0
    other = (*command, '--cfg-options', 'model.test_cfg.score_thr=0.999')
    status, output = predict(*other)
    assert status == 1 and 'expected the settings of the first start' in output and 'config' in output
    assert predict(*other, '--overwrite')[0] == 0
    assert pandas.read_csv(tmp_path / 'out/images.csv')['count'].tolist() == [0]
    assert not cv2.imread(str(tmp_path / 'out/labels/1.png'), cv2.IMREAD_UNCHANGED).any()


def test_mixed_precision(model, images, tmp_path, predict, monkeypatch):
    monkeypatch.setattr(mixed_precision, 'cpu_has_bfloat16', lambda: True)  # a CPU without emulates it
    command = (model, images / '1.png', '--out', tmp_path / 'out', '--device', 'cpu')
    assert predict(*command, '--amp')[0] == 0
    scores = pandas.read_csv(tmp_path / 'out/objects.csv').score.tolist()
    result = InstanceInferencer(model, device='cpu', amp=True)(images / '1.png')
    np.testing.assert_allclose(scores, result.scores, atol=1e-4)
    status, output = predict(*command)
    assert status == 1 and "precision 'torch.float32' instead of 'torch.bfloat16'" in output


def test_many_images_get_a_bar(model, tmp_path, predict):
    for number in range(21):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((16, 16, 3), number, np.uint8))
    status, output = predict(model, tmp_path, '--out', tmp_path / 'out', '--formats', 'labels', '--device', 'cpu')
    assert status == 0 and '21/21' in output and 'ETA' in output and 'objects' not in output
    settings = json.loads((tmp_path / 'out/records/settings.json').read_text())
    assert settings['formats'] == ['labels']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nuclei', 'nothing.png', '--out', 'out'], 'nothing.png: expected an image, got no such file'),
        (['leaves', '{image}', '--out', 'out'], r"shipped model \(nuclei\).*got 'leaves'"),
        (['{config}', '{image}', '--out', 'out'], 'expected weights for .*nuclei.py, got none'),
        (['nuclei', '{image}'], 'required: --out'),
        (['nuclei', '{image}', '--out', 'out', '--formats', 'xml'], "invalid choice: 'xml'"),
        (['nuclei', '{image}', '--out', 'out', '--tile', '0'], '--tile: expected at least 1, got 0'),
        (
            ['nuclei', '{image}', '--out', 'out', '--tile', '200'],
            'expected a tile of at least .* = 224 pixels, got 200',
        ),
        (['nuclei', '{image}', '{image}', '--out', 'out'], 'twice'),
    ],
)
def test_wrong_arguments_get_a_line(model, images, tmp_path, predict, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    names = {'{image}': images / '1.png', '{config}': model / 'nuclei.py'}
    status, output = predict(*(names.get(argument, argument) for argument in arguments))
    assert status != 0 and re.search(message, output)
    assert not (tmp_path / 'out/labels').exists()
