"""Wrappers of data sets, and hooks of a training, in test, flips, analysis and tuning: the metrics are those without them."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from ema_digits import train_ema_digits
from mmengine.config import Config

from mmseg_instancenet.engine import load_weights_only

TOOLS = Path(__file__).parents[2] / 'tools'
WRAPPERS = (
    'ConcatDataset',
    'mmdet.ConcatDataset',
    'RepeatDataset',
    'ClassBalancedDataset',
    'mmdet.MultiImageMixDataset',
)


def wrapped(kind: str, dataset: dict, count: int) -> dict:
    """The data set, of ``count`` images, in a wrapper that leaves each image once."""
    if kind.endswith('ConcatDataset'):
        parts = [range(count // 3), range(count // 3, count)]
        return dict(type=kind, datasets=[dict(dataset, indices=list(part)) for part in parts])
    settings = {
        'RepeatDataset': dict(times=1),
        'ClassBalancedDataset': dict(oversample_thr=1e-6),
        'mmdet.MultiImageMixDataset': dict(pipeline=[]),
    }
    return dict(type=kind, dataset=dataset, **settings[kind])


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A training with a moving average, with the flips of tests and without."""
    return train_ema_digits(tmp_path_factory.mktemp('wrapped'))


@pytest.fixture(scope='module')
def plain(trained):
    return {flips: metrics_of(trained, trained['config'], flips) for flips in (False, True)}


def config_with(trained, name: str, changes: dict) -> Path:
    config = Config.fromfile(trained['config'])
    for key, value in changes.items():
        config[key] = value
    path = trained['folder'] / f'{name}.py'
    config.dump(path)
    return path


def run(tool: str, *arguments) -> None:
    before, sys.argv = sys.argv, [tool, *map(str, arguments)]
    try:
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
    finally:
        sys.argv = before


def metrics_of(trained, config: Path, flips: bool) -> dict:
    work_dir = trained['folder'] / f'{config.stem}_{flips}'
    run('test.py', config, trained['checkpoint'], '--work-dir', work_dir, *(['--tta'] if flips else []))
    (file,) = work_dir.glob('*/*.json')
    return {key: value for key, value in json.loads(file.read_text()).items() if 'time' not in key}


@pytest.mark.parametrize('flips', [False, True])
@pytest.mark.parametrize('kind', WRAPPERS)
def test_a_test_of_a_wrapped_set(trained, plain, kind, flips):
    loader = Config.fromfile(trained['config']).test_dataloader
    loader.dataset = wrapped(kind, loader.dataset, 6)
    config = config_with(trained, f'{kind}_{flips}', dict(test_dataloader=loader))
    assert plain[flips]['counting/SBD'] > 0 and plain[False] != plain[True]
    assert metrics_of(trained, config, flips) == plain[flips]


@pytest.mark.parametrize(
    'hook',
    [
        dict(type='EarlyStoppingHook', monitor='coco/segm_mAP'),
        dict(type='ProfilerHook', on_trace_ready=dict(type='log_trace')),
        dict(type='FreezeHook', modules='backbone', until=1),
    ],
    ids=lambda hook: hook['type'],
)
def test_a_test_without_the_training_set(trained, plain, hook):
    """MMEngine's hooks would build the loop of the training for it."""
    config = Config.fromfile(trained['config'])
    config.train_dataloader.dataset.ann_file = 'nothing.json'
    changes = dict(train_dataloader=config.train_dataloader, custom_hooks=[*config.custom_hooks, hook])
    assert metrics_of(trained, config_with(trained, hook['type'], changes), False) == plain[False]


@pytest.mark.parametrize('flips', [False, True])
def test_the_average_of_the_weights_is_tested(trained, plain, flips):
    """The checkpoint has it as the model's weights, with EMAHook or without."""
    assert metrics_of(trained, config_with(trained, f'no_hooks_{flips}', dict(custom_hooks=[])), flips) == plain[flips]


@pytest.mark.parametrize('kind', WRAPPERS)
def test_a_training_on_a_wrapped_set(trained, kind):
    loader = Config.fromfile(trained['config']).train_dataloader
    loader.batch_size, loader.dataset = 4, wrapped(kind, dict(loader.dataset, indices=range(8)), 8)
    config = config_with(trained, f'train {kind}', dict(train_dataloader=loader))
    work_dir = trained['folder'] / f'train {kind}'
    run('train.py', config, '--work-dir', work_dir)
    checkpoint = load_weights_only(str(work_dir / 'epoch_1.pth'), map_location='cpu')
    assert checkpoint['meta']['iter'] == 2 and list(checkpoint['meta']['dataset_meta']['classes']) == list('0123456789')
    assert all(value.isfinite().all() for value in checkpoint['state_dict'].values())


@pytest.mark.parametrize('kind', WRAPPERS)
def test_perfect_embeddings_of_a_wrapped_set(trained, capsys, kind):
    loader = Config.fromfile(trained['config']).test_dataloader
    loader.dataset = wrapped(kind, loader.dataset, 6)
    run('analysis/perfect_embeddings.py', config_with(trained, f'perfect {kind}', dict(test_dataloader=loader)))
    assert 'own size                                 AP 1.000  uncapped 1.000' in capsys.readouterr().out


@pytest.mark.parametrize('kind', [None, *WRAPPERS[:3]])
def test_the_error_budget_of_a_wrapped_set(trained, plain, kind):
    loader = Config.fromfile(trained['config']).test_dataloader
    if kind:
        loader.dataset = wrapped(kind, loader.dataset, 6)
    config, out = (
        config_with(trained, f'budget {kind}', dict(test_dataloader=loader)),
        trained['folder'] / f'out {kind}',
    )
    work_dir = trained['folder'] / 'budget'
    run(
        'analysis/error_budget.py',
        config,
        trained['checkpoint'],
        '--work-dir',
        work_dir,
        '--out',
        out,
        '--resamples',
        1,
    )
    report = json.loads((out / 'budget.json').read_text())
    assert report['images'] == 6 and report['objects'] > 6
    assert report['measures']['AP']['value'] == pytest.approx(plain[False]['coco/segm_mAP_all'], abs=6e-4)
    assert report['measures']['AP*']['value'] == pytest.approx(plain[False]['counting/mean_accuracy'])


@pytest.fixture(scope='module')
def tuned(trained):
    return tune(trained, trained['config'])


def tune(trained, config: Path, *options) -> dict:
    out = trained['folder'] / f'{config.stem}.json'
    options = ['--thresholds', '0.8', '1.2', '--min-sizes', '4', '10', '--images', '10', '--out', out, *options]
    run('tune.py', config, trained['checkpoint'], '--work-dir', trained['folder'] / 'tune', *options)
    return json.loads(out.read_text())


@pytest.mark.parametrize('kind', WRAPPERS)
def test_tuning_on_a_wrapped_training_set(trained, tuned, kind, capsys):
    loader = Config.fromfile(trained['config']).train_dataloader
    loader.dataset = wrapped(kind, loader.dataset, 48)
    config = config_with(trained, f'tune {kind}', dict(train_dataloader=loader))
    assert tune(trained, config) == tuned
    assert '10 images of the training set' in capsys.readouterr().out
    if kind.endswith('ConcatDataset'):
        with pytest.raises(SystemExit, match='--aim AP: expected images of one annotation file, got 2 data sets'):
            tune(trained, config, '--aim', 'AP')
