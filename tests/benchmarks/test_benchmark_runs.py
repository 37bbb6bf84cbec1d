"""Every light benchmark once at tiny sizes: it runs and writes its files; times are not tested."""

import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from untrained_digits import untrained_digits

from benchmarks import __main__ as every_benchmark
from benchmarks import grouping, prediction, write_embeddings
from benchmarks.data import margin_groups, mixed_groups
from benchmarks.embedding_files import ImageEmbeddings, TrainedEmbeddings, load_embeddings, save_embeddings
from benchmarks.networks import our_config
from benchmarks.results import OURS, Row, read_rows, write_report
from benchmarks.training import one_case, plain_config
from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.apis import example_image
from mmseg_instancenet.engine import mixed_precision

CONFIG = Path(__file__).parents[2] / 'configs/recurrent-embedding_digits.py'
ON_GPUS_ALONE = {'ours, TF32', 'ours, grouping'}


@pytest.mark.parametrize(
    'name, alternatives',
    [
        ('mean_shift_iteration', {'dense'}),
        (
            'grouping',
            {'dense', 'hill climb', 'HDBSCAN', 'MeanShift, bins', 'MeanShift, bins, narrow', 'MeanShift, no bins'},
        ),
        ('center_grouping', {'network', 'center-fixed'}),
        ('crowded_images', {'network', 'grouper', 'labels', 'scorer', 'masks'}),
        ('losses', {'loop', 'dense'}),
    ],
)
def test_quick_run(name, alternatives, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    importlib.import_module(f'benchmarks.{name}').main(['--quick', '--out', str(tmp_path)])
    rows = read_rows(tmp_path / f'{name}.json')
    assert alternatives | {OURS} == {row.method for row in rows} - ON_GPUS_ALONE
    measured = [row for row in rows if row.seconds is not None]
    assert alternatives | {OURS} == {row.method for row in measured} - ON_GPUS_ALONE
    assert all(row.seconds > 0 and row.benchmark == name for row in measured)
    assert (tmp_path / f'{name}.png').exists()
    printed = capsys.readouterr().out
    if not torch.cuda.is_available():
        assert 'not measured: torch sees no GPU' in printed
    assert ('no embeddings in' in printed) == (name == 'grouping')


def test_parts_of_a_prediction(tmp_path):
    mosaic = prediction.mosaic(300)
    example = cv2.imread(str(example_image()))
    assert np.array_equal(mosaic[:256, :256], example) and mosaic.shape == (300, 300, 3)
    assert np.array_equal(mosaic[256:, 256:], example[::-1, ::-1][:44, :44])
    prediction.main(['--quick', '--out', str(tmp_path)])
    rows = [row for row in read_rows(tmp_path / 'prediction.json') if row.seconds is not None and row.device == 'cpu']
    assert [row.setting for row in rows if row.method == OURS] == [prediction.WHOLE, *prediction.PARTS]
    assert [row.setting for row in rows if row.method == prediction.MIXED] == [prediction.WHOLE, 'network']
    cv2.imwrite(str(tmp_path / 'image.png'), prediction.mosaic(64))
    expected = len(InstanceInferencer('nuclei', device='cpu')(tmp_path / 'image.png'))
    assert rows[0].agreement == {'objects': expected} and expected > 0
    assert cv2.imread(str(tmp_path / 'prediction_parts.png')).shape[1] == 960


def test_groupings_of_trained_models(tmp_path):
    files = []
    for name, draw, dims, grouper in (
        ('sphere', mixed_groups, 8, dict(type='MeanShiftGrouping', concentration=100, class_agnostic=True)),
        ('margins', margin_groups, 4, dict(type='CenterGrouping', threshold=1.2)),
    ):
        images = []
        for seed in range(2):
            data = draw(400, dims, 5, seed)
            images.append(ImageEmbeddings(data.x_ND.T.reshape(dims, 20, 20), data.class_N.view(20, 20)))
        files.append(tmp_path / f'{name}.pt')
        save_embeddings(TrainedEmbeddings('a_config', grouper, images), files[-1])
    loaded = load_embeddings(files[0])
    assert loaded.config == 'a_config'
    assert loaded.grouper['concentration'] == 100
    by_file = {}
    for row in grouping.measure_rows([], files):
        by_file.setdefault(row.setting, {})[row.method] = row
    assert by_file['sphere, 2 images, D=8'][OURS].agreement['index to exact'] >= 0.999
    assert set(by_file['sphere, 2 images, D=8']) == {OURS, 'dense', 'hill climb', 'HDBSCAN', 'MeanShift, bins'}
    assert by_file['margins, 2 images, D=4'][OURS].agreement == {'index to ours': 1.0}


def test_other_files_are_refused(tmp_path):
    torch.save({'state_dict': {}}, tmp_path / 'epoch_5.pth')
    with pytest.raises(ValueError, match='expected a file of python -m benchmarks.write_embeddings.*epoch_5.pth'):
        load_embeddings(tmp_path / 'epoch_5.pth')


def test_embeddings_of_a_model(tmp_path, capsys):
    _, options = untrained_digits(CONFIG, tmp_path, num_val=3)
    out = tmp_path / 'embeddings/digits.pt'
    write_embeddings.main(
        [
            str(CONFIG),
            str(tmp_path / 'untrained.pth'),
            str(out),
            '--images',
            '2',
            '--cfg-options',
            *options,
        ]
    )
    assert '2 images of recurrent-embedding_digits' in capsys.readouterr().out
    trained = load_embeddings(out)
    assert len(trained.images) == 2
    assert trained.grouper['type'] == 'MeanShiftGrouping'
    for embeddings_Dhw, class_map_hw in trained.images:
        assert embeddings_Dhw.shape[1:] == class_map_hw.shape
        torch.testing.assert_close(embeddings_Dhw.norm(dim=0), torch.ones(class_map_hw.shape))
        assert 0 <= class_map_hw.min() <= class_map_hw.max() <= 10


def test_plain_network_has_all_but_the_embedding_branch():
    config = our_config(quick=True)
    ours, plain = (MODELS.build(one) for one in (config, plain_config(config)))
    extra = set(ours.state_dict()) - set(plain.state_dict())
    assert {name for name in extra if name.startswith(('backbone', 'decode_head'))} == {
        'decode_head.conv_embedding.weight',
        'decode_head.conv_embedding.bias',
    }
    assert set(plain.state_dict()) < set(ours.state_dict())
    assert config.decode_head.type == 'EmbeddingHead', 'the given config stays'


def test_training_in_mixed_precision(monkeypatch):
    monkeypatch.setattr(mixed_precision, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(mixed_precision, 'cpu_has_bfloat16', lambda: True)
    whole, half = (one_case(33, 2, quick=True, device='cpu', amp=amp) for amp in (False, True))
    assert [row.method for row in half] == [row.method for row in whole] == [OURS, 'mmseg DeepLabV3+']
    for row, exact in zip(half, whole, strict=True):
        assert row.setting == f'{exact.setting}, --amp' and row.seconds > 0
        # The same class loss up to the eight digits of bfloat16.
        assert row.agreement['class loss'] == pytest.approx(exact.agreement['class loss'], rel=0.01)
        assert row.agreement != exact.agreement


def test_one_failure_does_not_lose_the_others(tmp_path, monkeypatch, capsys):
    class Finished:
        def __init__(self, returncode):
            self.returncode = returncode

    def run(command):
        name = command[2].partition('.')[2]
        assert command[1:] == ['-m', f'benchmarks.{name}', '--out', str(tmp_path), '--quick']
        if name == 'losses':
            return Finished(3)
        write_report([Row(name, '', 1, OURS, 'cpu', 1.0)], tmp_path / f'{name}.json', '', {})
        return Finished(0)

    monkeypatch.setattr(every_benchmark.subprocess, 'run', run)
    with pytest.raises(SystemExit, match='failed, see above: losses'):
        every_benchmark.main(['--quick', '--out', str(tmp_path)])
    assert json.loads((tmp_path / 'all.json').read_text())['failed'] == {'losses': 3}
    names = [row.benchmark for row in read_rows(tmp_path / 'all.json')]
    assert names == [name for name in every_benchmark.NAMES if name != 'losses']
