"""tools/tune.py: settings that are known by construction, and the whole tool on a small network with averaged weights."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ema_digits import train_ema_digits
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS

from mmseg_instancenet.analysis.kept_outputs import keep_outputs
from mmseg_instancenet.analysis.tuning import search_settings

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
    assert tried.row(found).counts == (1, 4, 4, 0)
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


@pytest.mark.parametrize('aim', ['accuracy_50', 'mean_accuracy', 'AP'])
def test_the_config_that_is_written_gives_the_tuned_figure(trained, monkeypatch, capfd, tmp_path, aim):
    out = tmp_path / 'elsewhere' / 'tuned.py'
    tune(trained, monkeypatch, '--aim', aim, '--thresholds', '0.4', '0.8', '--min-sizes', '1', '20', '--out', out)
    output = capfd.readouterr().out
    line = rf'{aim} (\S+) -> (\S+) on these images, of which (\S+) is half an object'
    before, after, half_an_object = map(float, re.search(line, output).groups())
    assert after > before
    curves = tables(output)
    names = ['threshold', 'min_size'] + ['score_thr'] * (aim != 'AP')
    assert [name for name, _ in curves][: len(names)] == names
    assert [row[0] for row in curves[0][1]] == [0.4, 0.8, 1.2]  # with the config's
    assert curves[0][1][-1][1] == before
    # What a difference of less than half an object leaves open is settled by the config.
    highest = max(row[1] for row in curves[-1][1])
    assert highest - half_an_object - 1e-4 <= after <= highest
    assert half_an_object == pytest.approx(0.5 / curves[0][1][0][3], abs=1e-4)
    assert 'a little optimistic' not in output and '12 images of tune_dataloader' in output
    config = Config.fromfile(out)
    assert config.model.test_cfg.score_thr == 0 or aim != 'AP'
    names = ('model.grouper.threshold', 'model.grouper.min_size', 'model.test_cfg.score_thr')
    found = re.search(' '.join(rf'{name}=(\S+)' for name in names), output)
    assert [float(value) for value in found.groups()] == [
        config.model.grouper.threshold, config.model.grouper.min_size, config.model.test_cfg.score_thr
    ]  # fmt: skip

    # The printed command, from another folder, on the images that were kept back: with MMEngine's own EMAHook.
    monkeypatch.chdir(tmp_path)
    options = [
        'test_dataloader.dataset.ann_file=train.json', 'test_dataloader.dataset.data_prefix.img=train/',
        f'test_dataloader.dataset.indices=[{",".join(str(index) for index in range(0, 48, 4))}]',
    ]  # fmt: skip
    monkeypatch.setattr(sys, 'argv', ['test.py', str(out), str(trained['checkpoint']), '--cfg-options', *options])
    runpy.run_path(str(ROOT / 'tools/test.py'), run_name='__main__')
    tested = ''.join(capfd.readouterr())
    if aim != 'AP':  # of the images that are kept back COCO's file has more
        value = float(re.search(rf'counting/{aim}: ([0-9.]+)', tested).group(1))
        assert value == pytest.approx(after, abs=1e-4)


def test_the_curve_of_the_threshold_without_values(trained, monkeypatch, capfd):
    """From 0.4, far too small for the config's margins, the curve goes on beyond 2.5 times as much."""
    out = trained['folder'] / 'further.py'
    small = ['--cfg-options', 'model.grouper.threshold=0.4']
    tune(trained, monkeypatch, '--min-sizes', '10', '--out', out, *small)
    output = capfd.readouterr().out
    values, aims, *_ = np.array(tables(output)[0][1]).T
    assert values[:8].tolist() == [0.2, 0.252, 0.32, 0.4, 0.504, 0.64, 0.8, 1.0]
    assert 8 < len(values) <= 14 and (len(values) == 14 or aims.argmax() < len(values) - 1)
    assert 'or, with the --cfg-options of this call and:' in output
    assert Config.fromfile(out).model.grouper.threshold >= 1


def test_ap_is_that_of_the_metric(trained, monkeypatch, capfd):
    """On the whole training set, where COCO's file has no other images."""
    more = '\ndel tune_dataloader\n'
    whole = trained['folder'] / 'whole.py'
    whole.write_text(trained['config'].read_text() + more)
    tune(trained, monkeypatch, '--aim', 'AP', '--thresholds', '0.5', '--min-sizes', '1', '--images', '48', config=whole)
    output = capfd.readouterr().out
    assert '48 images of the training set' in output and 'a little optimistic' in output
    after = float(re.search(r'AP \S+ -> (\S+) on these images', output).group(1))
    tuned = Path(trained['checkpoint']).with_name('epoch_1_tuned.py')
    assert tuned.is_file()  # beside the checkpoint
    options = ['test_dataloader.dataset.ann_file=train.json', 'test_dataloader.dataset.data_prefix.img=train/']
    monkeypatch.setattr(sys, 'argv', ['test.py', str(tuned), str(trained['checkpoint']), '--cfg-options', *options])
    runpy.run_path(str(ROOT / 'tools/test.py'), run_name='__main__')
    tested = ''.join(capfd.readouterr())
    assert float(re.search(r'coco/segm_mAP_all: ([0-9.]+)', tested).group(1)) == pytest.approx(after, abs=1e-9)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--images', '0'], '--images: expected at least 1, got 0'),
        (['--thresholds', '1', '-1'], r'--thresholds: expected values > 0, got \[1.0, -1.0\]'),
        (['--min-sizes', '0'], r'--min-sizes: expected values > 0, got \[0\]'),
        (['--out', 'tuned.json'], '--out: expected another file .* got tuned.json'),
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
