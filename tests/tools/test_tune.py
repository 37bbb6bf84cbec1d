"""tools/tune.py: settings that are known by construction, and the whole tool on a small network with averaged weights."""

import itertools
import json
import re
import runpy
import shutil
import sys
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ema_digits import train_ema_digits
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from tuned_files import write_tuned

from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.analysis.kept_outputs import keep_outputs
from mmseg_instancenet.analysis.tuning import search_settings
from mmseg_instancenet.apis import init_model, segment_image

ROOT = Path(__file__).resolve().parents[2]
TOOL = str(ROOT / 'tools/tune.py')
SIZE = (32, 40)


def known_model(grouper, dims=2, loss='DiscriminativeLoss', **test_cfg):
    """A segmentor whose network returns its input: two class scores and embeddings (``dims``) as channels."""
    model = MODELS.build(
        dict(
            type='EmbeddingSegmentor',
            data_preprocessor=dict(type='InstanceMapDataPreprocessor'),
            backbone=dict(type='ResNetV1c', depth=18, base_channels=4, norm_cfg=dict(type='BN')),
            decode_head=dict(type='EmbeddingFCNHead', in_channels=4, in_index=0, channels=8, num_convs=1, num_classes=2,
                             embedding_dims=dims, norm_cfg=dict(type='BN'), loss_embedding=dict(type=loss)),
            grouper=grouper,
            test_cfg=test_cfg,
        )
    ).eval()  # fmt: skip
    model.scores_and_embeddings = lambda inputs, metas, origin: inputs.tensor_split([2], dim=1)
    return model


def scene(with_faults: bool):
    """Two objects of unequal size, each of three bands that lie 1 apart in the embedding; the objects lie 10 apart.

    With faults the first has a speck of 4 pixels with an embedding of its own, and there is a false object of 24 pixels, of
    which the network is not sure.
    """
    truth, embeddings = np.zeros(SIZE, int), np.zeros((2, *SIZE))
    triangle = np.array([[0, 0], [1, 0], [0.5, 3**0.5 / 2]])
    for label, (rows, left, width) in enumerate([(slice(2, 12), 4, 4), (slice(16, 30), 8, 5)], 1):
        for band, offset in enumerate(triangle):
            columns = slice(left + band * width, left + (band + 1) * width)
            truth[rows, columns] = label
            embeddings[:, rows, columns] = (np.array([10.0 * label, 0]) + offset)[:, None, None]
    log_odds = np.where(truth > 0, 10.0, -10.0)
    if with_faults:
        embeddings[:, 4:6, 6:8] = np.array([40.0, 40.0])[:, None, None]
        log_odds[2:6, 30:36], embeddings[:, 2:6, 30:36] = 0.2, -30.0
    table = np.concatenate([np.stack([np.zeros(SIZE), log_odds]), embeddings])
    sample = DetDataSample(metainfo=dict(ori_shape=SIZE, img_shape=SIZE, img_id=1))
    sample.set_field(PixelData(data=torch.from_numpy(truth)[None]), 'gt_instance_map', dtype=PixelData)
    return dict(inputs=[torch.from_numpy(table).float()], data_samples=[sample]), truth


def trials(model, batches, grouper, aim='accuracy_50'):
    tool = runpy.run_path(TOOL, run_name='tune')
    return tool['Trials'](model, keep_outputs(model, batches), grouper, aim, {})


@pytest.mark.parametrize(
    ('grouper', 'name', 'values'),
    [
        (dict(type='CenterGrouping', threshold=0.5), 'threshold', (0.5, 1.5, 20.0)),
        (dict(type='MeanShiftGrouping', kernel='norm', concentration=400), 'concentration', (400, 2, 0.002)),
    ],
)
def test_the_best_of_the_first_setting_is_known(grouper, name, values):
    """Too near: three thirds of each object. Right: both. Too far: one instance, 210 of whose 330 pixels are an object."""
    tried = trials(known_model(grouper), [scene(False)[0]], grouper)
    rows = [tried.row({name: value, 'min_size': 1}) for value in values]
    assert [row.aim for row in rows] == [0, 1, 1 / 2]
    assert [(row.counts.predicted, row.counts.true, row.counts.count_error) for row in rows] == [
        (6, 2, 4), (2, 2, 0), (1, 2, 1)
    ]  # fmt: skip
    mean = trials(known_model(grouper), [scene(False)[0]], grouper, 'mean_accuracy')
    # An IoU of 7 / 11 reaches 0.5, 0.55 and 0.6 of the ten.
    aims = [mean.row({name: value, 'min_size': 1}).aim for value in values]
    assert aims == pytest.approx([0, 1, 0.3 / 2])


def test_the_best_mask_threshold_is_known():
    """Bands 1 apart have a soft mask of 1 / e for each other, at a bandwidth of 0; objects 10 apart at most exp(-81)."""
    batch, _ = scene(False)
    bandwidth, seed = torch.zeros(1, *SIZE), torch.full((1, *SIZE), 5.0)
    batch['inputs'] = [torch.cat([batch['inputs'][0], bandwidth, seed])]
    grouper = dict(type='SeedGrouping', mask_threshold=0.5)
    tried = trials(known_model(grouper, dims=4, loss='SoftMaskLoss'), [batch], grouper)
    rows = [tried.row({'mask_threshold': value, 'min_size': 1}) for value in (0.5, 0.3, 1e-60)]
    assert [row.aim for row in rows] == [0, 1, 1 / 2]
    assert [row.counts.predicted for row in rows] == [6, 2, 1]


def test_the_search_finds_all_three_settings():
    grouper = dict(type='CenterGrouping', threshold=0.5)
    tried = trials(known_model(grouper), [scene(True)[0], scene(False)[0]], grouper)
    values = dict(threshold=(0.5, 1.5, 20.0), min_size=(1, 4, 5, 8), score_thr=(0.0, 0.2, 0.4, 0.6, 0.95))
    seen = []

    def curve(name, settings):
        aims = {value: tried.row(settings | {name: value}).aim for value in values[name]}
        seen.append((name, list(aims.values())))
        return aims

    found = search_settings(curve, {'threshold': 0.5, 'min_size': 1, 'score_thr': 0.0})
    # The false object scores 0.55 x 24 / 32 = 0.41, the speck 4 / 12 and the others above 0.6. The second round finds that the
    # cut drops the speck too, and goes back to the min_size of the config, the nearest among equals.
    assert found == {'threshold': 1.5, 'min_size': 1, 'score_thr': 0.6}
    assert seen[0] == ('threshold', pytest.approx([0, 4 / 6, 2 / 6]))
    assert seen[1] == ('min_size', pytest.approx([4 / 6, 4 / 6, 4 / 5, 4 / 5]))
    assert seen[4] == ('min_size', [1, 1, 1, 1])
    assert seen[2] == ('score_thr', pytest.approx([4 / 5, 4 / 5, 4 / 5, 1, 0]))
    assert tried.row(found).counts == (1, 4, 4, 0, 1)
    assert tried.count == 3 + 3 + 2  # each pair of threshold and min_size is grouped once, in both rounds


@pytest.mark.parametrize(
    ('aims', 'expected'),
    [
        ({1.0: 0.1, 1.5: 0.3, 2.0: 0.2}, []),
        ({1.0: 0.1, 1.5: 0.2, 3.0: 0.3}, [6.0]),
        ({1.0: 0.3, 1.5: 0.2, 3.0: 0.1}, [0.667]),
        ({1.0: 0.1, 1.5: 0.3, 3.0: 0.3}, []),  # flat: 1.5 is nearer to the config's
        ({1.0: 0.0, 1.5: 0.0, 3.0: 0.0}, []),
    ],
)
def test_a_curve_goes_on_where_its_best_lies_at_the_end(aims, expected):
    assert runpy.run_path(TOOL, run_name='tune')['next_value'](aims, 1.5) == expected


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Twelve of the 48 images of the training set are kept back."""
    held_back = [*range(0, 48, 4)]
    more = f"""
tune_dataloader = dict(
    batch_size=5, num_workers=0, persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DigitsDataset', data_root='FOLDER/data/', ann_file='train.json', data_prefix=dict(img='train/'),
                 test_mode=True, indices={held_back}, pipeline={{{{_base_.pipeline}}}}),
)
"""
    folder = tmp_path_factory.mktemp('tune')
    return train_ema_digits(folder, more=more.replace('FOLDER', str(folder)))


def tune(trained, monkeypatch, *arguments, config=None, checkpoint=None):
    """In this process, which is quicker."""
    common = [
        config or trained['config'],
        checkpoint or trained['checkpoint'],
        '--work-dir',
        trained['folder'] / 'work',
    ]
    monkeypatch.setattr(sys, 'argv', ['tune.py', *map(str, [*common, *arguments])])
    runpy.run_path(TOOL, run_name='__main__')


def tables(output):
    """Name of the setting, and its rows, of every table that was printed."""
    found = []
    for title, body in re.findall(r'^(\w+), with .*\n.*count error\n((?: +\S+ +\S+ +\S+ +\S+ +\S+\n)+)', output, re.M):
        found.append((title, [[float(cell) for cell in line.split()] for line in body.splitlines()]))
    return found


HELD_BACK = range(0, 48, 4)
ON_THE_TUNED_IMAGES = [
    'test_dataloader.dataset.ann_file=train.json', 'test_dataloader.dataset.data_prefix.img=train/',
    f'test_dataloader.dataset.indices=[{",".join(map(str, HELD_BACK))}]',
]  # fmt: skip


def copy_of_checkpoint(trained, folder: Path) -> Path:
    """The json of one test would be used by the next one."""
    return Path(shutil.copy(trained['checkpoint'], folder / 'epoch_1.pth'))


RUN_NUMBER = itertools.count()


def run_test(monkeypatch, capfd, config, checkpoint, *options) -> tuple[dict, str]:
    """The metrics of tools/test.py, and its output."""
    # Two runs of one name within a second would share a logger, which writes to the first one's output.
    name = f'experiment_name=run_{next(RUN_NUMBER)}'
    arguments = ['test.py', config, checkpoint, '--cfg-options', name, *options]
    monkeypatch.setattr(sys, 'argv', [*map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools/test.py'), run_name='__main__')
    output = ''.join(capfd.readouterr())
    return {name: float(value) for name, value in re.findall(r'(\w+/\w+): (-?[0-9.]+)', output)}, output


METRICS = {
    'accuracy_50': 'counting/accuracy_50',
    'f1_50': 'counting/F1_50',
    'mean_accuracy': 'counting/mean_accuracy',
    'count_error': 'counting/abs_DiC',
    'AP': None,  # of the images that are kept back COCO's file has more; see test_ap_is_that_of_the_metric
}


@pytest.mark.parametrize('aim', METRICS)
def test_a_test_with_the_stored_settings_gives_the_tuned_figure(trained, monkeypatch, capfd, tmp_path, aim):
    checkpoint = copy_of_checkpoint(trained, tmp_path)
    tune(
        trained,
        monkeypatch,
        '--aim',
        aim,
        '--thresholds',
        '0.4',
        '0.8',
        '--min-sizes',
        '1',
        '20',
        checkpoint=checkpoint,
    )
    output = capfd.readouterr().out
    line = rf'{aim} (\S+) -> (\S+) on these images, of which (\S+) is half an object'
    before, after, half_an_object = map(float, re.search(line, output).groups())
    lower_is_better = aim == 'count_error'
    assert before > after if lower_is_better else after > before
    curves = tables(output)
    names = ['threshold', 'min_size'] + ['score_thr'] * (aim != 'AP')
    assert [name for name, _ in curves][: len(names)] == names
    assert [row[0] for row in curves[0][1]] == [0.4, 0.8, 1.2]  # with the config's
    assert curves[0][1][-1][1] == before
    # What a difference of less than half an object leaves open is settled by the config.
    if lower_is_better:
        best = min(row[1] for row in curves[-1][1])
        assert best <= after <= best + half_an_object + 1e-4
        assert half_an_object == pytest.approx(0.5 / 12, abs=1e-4)
    else:
        best = max(row[1] for row in curves[-1][1])
        assert best - half_an_object - 1e-4 <= after <= best
        assert half_an_object == pytest.approx(0.5 / curves[0][1][0][3], abs=1e-4)
    assert 'a little optimistic' not in output and '12 images of tune_dataloader' in output

    tuned = json.loads((tmp_path / 'epoch_1_tuned.json').read_text())
    names = ('model.grouper.threshold', 'model.grouper.min_size', 'model.test_cfg.score_thr')
    assert list(tuned['settings']) == list(names)
    assert tuned['settings']['model.test_cfg.score_thr'] == 0 or aim != 'AP'
    assert (tuned['grouper'], tuned['aim'], tuned['images']) == ('CenterGrouping', aim, 12)
    assert (tuned['before'], tuned['after']) == (pytest.approx(before, abs=1e-4), pytest.approx(after, abs=1e-4))
    assert tuned['objects'] == curves[0][1][0][3] and tuned['date'] == date.today().isoformat()
    assert cv2.imread(str(tmp_path / 'epoch_1_tuned.png')).min() < 100  # not a blank page

    if METRICS[aim] is None:
        return
    # The printed command, from another folder, on the images that were kept back: with MMEngine's own EMAHook.
    monkeypatch.chdir(tmp_path)
    metrics, output = run_test(monkeypatch, capfd, trained['config'], checkpoint, *ON_THE_TUNED_IMAGES)
    used = ' '.join(f'{name}={tuned["settings"][name]:g}' for name in names)
    assert f'settings of epoch_1_tuned.json: {used}\n' in output
    assert metrics[METRICS[aim]] == pytest.approx(after, abs=1e-4)


def test_the_users_settings_are_tested(trained, monkeypatch, capfd, tmp_path):
    checkpoint = copy_of_checkpoint(trained, tmp_path)
    settings = {'model.grouper.threshold': 0.4, 'model.grouper.min_size': 1, 'model.test_cfg.score_thr': 0.05}
    write_tuned(checkpoint, settings)
    monkeypatch.chdir(tmp_path)
    common = [trained['config'], checkpoint, *ON_THE_TUNED_IMAGES]
    of_the_config, output = run_test(monkeypatch, capfd, *common, 'use_tuned_settings=False')
    assert 'settings of' not in output
    written = list(tmp_path.glob('work_dirs/ema/**/ema.py'))
    assert len(written) == 1 and written[0].parent.parent == tmp_path / 'work_dirs/ema', (
        'beside the results of the test'
    )
    of_the_json, _ = run_test(monkeypatch, capfd, *common)
    assert of_the_json['counting/DiC'] > of_the_config['counting/DiC'] + 1
    options = ['model.grouper.threshold=1.2', 'model.grouper.min_size=10', 'model.test_cfg.score_thr=0.0']
    given, output = run_test(monkeypatch, capfd, *common, *options)
    assert f'settings of epoch_1_tuned.json: none is used; given by cfg_options: {" ".join(settings)}' in output
    assert given == of_the_config


def test_every_way_to_a_model_uses_the_stored_settings(trained, monkeypatch, capfd, tmp_path):
    """The count error of tune.py, from images without annotations: by classes that the network predicts, all foreground."""
    state = torch.load(trained['checkpoint'], weights_only=True)
    torch.nn.init.constant_(state['state_dict']['decode_head.conv_seg.bias'][:1], -50)
    checkpoint = tmp_path / 'epoch_1.pth'
    torch.save(state, checkpoint)
    config = tmp_path / 'predicted.py'
    config.write_text(
        trained['config'].read_text()
        + """
model['test_cfg']['classes'] = 'predicted'
tune_dataloader['dataset']['indices'] = [0, 4, 8]
"""
    )
    options = ['--aim', 'count_error', '--thresholds', '0.8', '--min-sizes', '40']
    tune(trained, monkeypatch, *options, config=config, checkpoint=checkpoint)
    line = r'count_error (\S+) -> (\S+) on these images'
    before, after = map(float, re.search(line, capfd.readouterr().out).groups())

    coco = json.loads((trained['folder'] / 'data/train.json').read_text())
    images = [coco['images'][index] for index in (0, 4, 8)]
    true = [sum(one['image_id'] == image['id'] for one in coco['annotations']) for image in images]
    paths = [str(trained['folder'] / 'data/train' / image['file_name']) for image in images]

    def count_error(counts) -> float:
        return np.mean([abs(count - expected) for count, expected in zip(counts, true, strict=True)])

    model = init_model(str(config), str(checkpoint), device='cpu')
    inferencer = InstanceInferencer(config, checkpoint, device='cpu')
    own = InstanceInferencer(config, checkpoint, 'cpu', cfg_options={'use_tuned_settings': False})
    assert count_error(len(segment_image(model, path).pred_instances) for path in paths) == pytest.approx(
        after, abs=1e-4
    )
    assert count_error(map(len, inferencer(paths))) == pytest.approx(after, abs=1e-4)
    assert count_error(map(len, own(paths))) == pytest.approx(before, abs=1e-4) and before > after + 0.5
    # tools/predict.py begins anew where the text of the config has changed.
    assert inferencer.cfg.pretty_text != own.cfg.pretty_text
    stored = json.loads((tmp_path / 'epoch_1_tuned.json').read_text())['settings']
    assert inferencer.cfg.model.grouper.threshold == stored['model.grouper.threshold']


def test_the_curve_of_the_threshold_without_values(trained, monkeypatch, capfd):
    """From 0.2, far too small for the config's margins, the curve goes on beyond 2.5 times as much."""
    out = trained['folder'] / 'elsewhere/further.json'
    small = ['--cfg-options', 'model.grouper.threshold=0.2']
    tune(trained, monkeypatch, '--min-sizes', '10', '--out', out, *small)
    output = capfd.readouterr().out
    values, aims, *_ = np.array(tables(output)[0][1]).T
    assert values[:8].tolist() == [0.1, 0.126, 0.16, 0.2, 0.252, 0.32, 0.4, 0.5]
    assert 8 < len(values) <= 14 and (len(values) == 14 or aims.argmax() < len(values) - 1)
    assert f'{out} and {out.with_suffix(".png")} written' in output and out.with_suffix('.png').is_file()
    assert 'to use it, copy it to ' in output and 'epoch_1_tuned.json' in output
    assert 'Other --cfg-options of this call are not stored' in output
    assert json.loads(out.read_text())['settings']['model.grouper.threshold'] >= 0.5


def test_ap_is_that_of_the_metric(trained, monkeypatch, capfd, tmp_path):
    """On the whole training set, where COCO's file has no other images."""
    more = '\ndel tune_dataloader\n'
    whole = trained['folder'] / 'whole.py'
    whole.write_text(trained['config'].read_text() + more)
    checkpoint = copy_of_checkpoint(trained, tmp_path)
    options = ['--aim', 'AP', '--thresholds', '0.5', '--min-sizes', '1', '--images', '48']
    tune(trained, monkeypatch, *options, config=whole, checkpoint=checkpoint)
    output = capfd.readouterr().out
    assert '48 images of the training set' in output and 'a little optimistic' in output
    after = float(re.search(r'AP \S+ -> (\S+) on these images', output).group(1))
    metrics, _ = run_test(monkeypatch, capfd, whole, checkpoint, *ON_THE_TUNED_IMAGES[:2])
    assert metrics['coco/segm_mAP_all'] == pytest.approx(after, abs=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--images', '0'], '--images: expected at least 1, got 0'),
        (['--thresholds', '1', '-1'], r'--thresholds: expected values > 0, got \[1.0, -1.0\]'),
        (['--min-sizes', '0'], r'--min-sizes: expected values > 0, got \[0\]'),
        (['--out', 'tuned.py'], '--out: expected a file that ends in .json, got tuned.py'),
    ],
)
def test_what_is_refused(trained, monkeypatch, arguments, message):
    with pytest.raises(SystemExit, match=message):
        tune(trained, monkeypatch, *arguments)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            dict(grouper=dict(type='ClassGrouping')),
            'expected one of CenterGrouping, MeanShiftGrouping, SeedGrouping in .*, got ClassGrouping',
        ),
        (
            dict(
                type='ProposalSegmentor',
                grouper=dict(type='MeanShiftGrouping', class_agnostic=True),
                more_groupers=[dict(concentration=50)],
            ),
            'expected an EmbeddingSegmentor in .*, got ProposalSegmentor',
        ),
    ],
)
def test_models_without_such_settings(trained, monkeypatch, settings, message):
    config = Config.fromfile(trained['config'])
    for name, value in settings.items():
        config.model[name] = value
    config.dump(trained['folder'] / 'other.py')
    with pytest.raises(SystemExit, match=message):
        tune(trained, monkeypatch, config=trained['folder'] / 'other.py')


def test_a_checkpoint_that_is_not_there(trained, monkeypatch):
    with pytest.raises(SystemExit, match='checkpoint not found: nowhere.pth'):
        tune(trained, monkeypatch, checkpoint='nowhere.pth')


def test_an_aim_that_does_not_exist(trained, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        tune(trained, monkeypatch, '--aim', 'F1')
    error = capsys.readouterr().err
    assert "invalid choice: 'F1'" in error and all(aim in error for aim in ('accuracy_50', 'mean_accuracy', 'AP'))


def test_a_diverged_training(trained, monkeypatch):
    state = torch.load(trained['checkpoint'], weights_only=True)
    weights = state['state_dict']
    weights.update({name: value * float('nan') for name, value in weights.items() if value.is_floating_point()})
    broken = trained['folder'] / 'broken.pth'
    torch.save({'state_dict': weights, 'meta': {}}, broken)
    with pytest.raises(SystemExit, match='broken.pth: expected finite embeddings, got NaN.*diverged'):
        tune(trained, monkeypatch, checkpoint=broken)


def test_images_without_objects():
    data, truth = scene(False)
    tool = runpy.run_path(TOOL, run_name='tune')
    data['data_samples'][0].gt_instance_map.data = torch.zeros(1, *SIZE).long()
    images = keep_outputs(known_model(dict(type='CenterGrouping')), [data])
    with pytest.raises(SystemExit, match='expected objects in the images .*got none in 1 images'):
        tool['count_objects'](images)


def test_ground_truth_that_is_missing_or_of_another_size():
    model = known_model(dict(type='CenterGrouping'))
    data, truth = scene(False)
    data['data_samples'][0].gt_instance_map = PixelData(data=torch.from_numpy(truth)[None, ::2, ::2])
    with pytest.raises(ValueError, match=r'gt_instance_map at the original size \(32, 40\), got \(16, 20\)'):
        keep_outputs(model, [data])
    del data['data_samples'][0].gt_instance_map
    with pytest.raises(ValueError, match='expected gt_instance_map in the data samples'):
        keep_outputs(model, [data])
