"""Weights and images of the tools that run a model outside MMEngine's loops."""

import copy
import runpy
import sys
from pathlib import Path

import pytest
import torch
from ema_digits import train_ema_digits
from mmengine.config import Config
from mmengine.hooks import LoggerHook
from several_processes import run_ranks

from mmseg_instancenet.apis.analysis_run import (
    EvaluationRunner,
    images_of,
    load_for_analysis,
    spread,
    training_set_for_testing,
    with_pipeline,
)
from mmseg_instancenet.engine import register_safe_loaders

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return train_ema_digits(tmp_path_factory.mktemp('ema'))


def config_of(trained, **settings):
    config = Config.fromfile(trained['config'])
    config.work_dir = str(trained['folder'] / 'analysis')
    config.merge_from_dict(settings)
    return config


@pytest.mark.parametrize('settings', [{}, {'resume': True}, {'custom_hooks': []}], ids=['ema', 'resume', 'no hook'])
def test_a_training_with_a_moving_average_gives_the_averaged_weights(trained, settings):
    model = load_for_analysis(config_of(trained, **settings), str(trained['checkpoint'])).model
    assert not model.training
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach().cpu(), trained['average'][name], rtol=1e-4, atol=1e-6)
    assert any(not torch.allclose(value, trained['last'][name]) for name, value in model.named_parameters())


def loggers_of_rank(config_file):
    """How many hooks write the metrics of a test in this process of a group."""
    register_safe_loaders()
    config = Config.fromfile(config_file)
    config.launcher, config.work_dir = 'pytorch', 'work'
    runner = EvaluationRunner.from_cfg(config)
    return torch.tensor([isinstance(hook, LoggerHook) for hook in runner.hooks].count(True))


def test_one_of_two_processes_writes_the_metrics_of_a_test(trained, tmp_path):
    config = config_of(trained, model_wrapper_cfg=dict(type='CPUDistributedDataParallel', broadcast_buffers=False))
    config.dump(tmp_path / 'config.py')
    assert run_ranks(loggers_of_rank, 2, tmp_path / 'ranks', tmp_path / 'config.py') == [1, 0]


def test_the_tables_run_on_such_a_checkpoint(trained, monkeypatch, capsys):
    out = trained['folder'] / 'tables.json'
    arguments = [trained['config'], trained['checkpoint'], '--thresholds', '1.2', '--out', out]
    monkeypatch.setattr(sys, 'argv', ['tables', *map(str, arguments), '--work-dir', str(trained['folder'] / 'work')])
    runpy.run_path(str(ROOT / 'tools/analysis/grouping_tables.py'), run_name='__main__')
    assert out.is_file() and 'Table 1: threshold 1.2' in capsys.readouterr().out


@pytest.mark.parametrize(('count', 'expected'), [(1, [0]), (3, [0, 4, 9]), (10, [*range(10)]), (99, [*range(10)])])
def test_images_are_spread_over_the_set(count, expected):
    dataloader = torch.utils.data.DataLoader(range(10), batch_size=2, collate_fn=list)
    assert sum(spread(dataloader, count), []) == expected


def test_training_set_for_testing_is_that_of_the_single_images():
    """MultiImageMixDataset, as people train with it, holds the set that reads images."""
    images = dict(type='CocoInstanceDataset', ann_file='train.json', indices=[0, 2], pipeline=['load', 'crop'])
    plain = dict(train_dataloader=dict(dataset=images), test_dataloader=dict(dataset=dict(pipeline=['load'])))
    mixed = Config(dict(plain, train_dataloader=dict(dataset=dict(type='Mix', dataset=images, pipeline=['paste']))))
    expected = dict(images, pipeline=['load'], test_mode=True)
    assert training_set_for_testing(Config(plain)) == training_set_for_testing(mixed) == expected
    assert mixed.train_dataloader.dataset.dataset.pipeline == ['load', 'crop']


A, B = (dict(type='CocoInstanceDataset', ann_file=f'{name}.json', pipeline=['load', 'crop']) for name in 'ab')
A_TESTED, B_TESTED = (dict(one, pipeline=['load'], test_mode=True) for one in (A, B))


@pytest.mark.parametrize(
    ('dataset', 'expected'),
    [
        (A, A_TESTED),
        (dict(type='RepeatDataset', times=3, dataset=A), A_TESTED),
        (
            dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=dict(type='RepeatDataset', dataset=A)),
            A_TESTED,
        ),
        (dict(type='ConcatDataset', datasets=[A, B]), dict(type='ConcatDataset', datasets=[A_TESTED, B_TESTED])),
        (
            dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[A, dict(type='Mix', dataset=B)])),
            dict(type='ConcatDataset', datasets=[A_TESTED, B_TESTED]),
        ),
    ],
    ids=['plain', 'repeated', 'balanced and repeated', 'joined', 'joined and repeated'],
)
def test_another_pipeline_for_the_images_of_a_wrapped_set(dataset, expected):
    before = copy.deepcopy(dataset)
    assert with_pipeline(dataset, ['load'], test_mode=True) == expected
    assert with_pipeline(Config(dict(d=dataset)).d, ['load'], test_mode=True) == expected
    assert images_of(dataset) == A and images_of(expected) == A_TESTED
    assert dataset == before
    config = Config(dict(train_dataloader=dict(dataset=dataset), test_dataloader=dict(dataset=A_TESTED)))
    assert training_set_for_testing(config) == expected
