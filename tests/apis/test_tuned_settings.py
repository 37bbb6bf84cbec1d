"""Settings beside a checkpoint: when they replace those of the config, and when they do not."""

import hashlib
import json
import runpy
import sys
import warnings

import pytest
from mmengine.config import Config
from programs import REPOSITORY
from tuned_files import write_tuned

from mmseg_instancenet.analysis.first_settings import FIRST_SETTINGS
from mmseg_instancenet.apis.model_files import read_config
from mmseg_instancenet.apis.tuned_settings import KEYS, file_sha256, merge_tuned_settings, read_tuned_settings

GROUPER = dict(type='CenterGrouping', mode='shift', threshold=1.2, min_size=10)
SETTINGS = {'model.grouper.threshold': 0.8, 'model.grouper.min_size': 4, 'model.test_cfg.score_thr': 0.25}
LINE = 'settings of epoch_5_tuned.json: '


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint with tuned settings."""
    path = tmp_path / 'epoch_5.pth'
    path.write_bytes(b'weights')
    write_tuned(path, SETTINGS)
    return path


def config_with(**others) -> Config:
    return Config(dict(model=dict(grouper=dict(GROUPER), test_cfg=dict(mode='whole')), **others))


def values_of(config: Config) -> tuple:
    grouper, test_cfg = config.model.grouper, config.model.test_cfg
    return grouper.threshold, grouper.min_size, test_cfg.get('score_thr')


def test_the_settings_replace_those_of_the_config(checkpoint, capsys):
    config = config_with()
    merged = read_config(config, str(checkpoint))
    assert values_of(merged) == (0.8, 4, 0.25)
    assert merged.model.grouper.mode == 'shift' and merged.model.test_cfg.mode == 'whole'
    assert capsys.readouterr().out == (
        f'{LINE}model.grouper.threshold=0.8 model.grouper.min_size=4 model.test_cfg.score_thr=0.25\n'
    )
    assert values_of(config) == (1.2, 10, None)  # another checkpoint may come with it
    for empty in (None, 'absent'):
        config.model.test_cfg = None
        if empty == 'absent':
            del config.model['test_cfg']
        assert values_of(read_config(config, checkpoint)) == (0.8, 4, 0.25)
    config.model.grouper.type = 'mmseg.CenterGrouping'
    assert values_of(read_config(config, checkpoint)) == (0.8, 4, 0.25)


@pytest.mark.parametrize(
    ('options', 'values', 'line'),
    [
        (
            {'model.grouper.threshold': 2.0},
            (2.0, 4, 0.25),
            'model.grouper.min_size=4 model.test_cfg.score_thr=0.25; given by cfg_options: model.grouper.threshold\n',
        ),
        (
            {'model.grouper': {'threshold': 2.0, 'mode': 'fixed'}, 'model.test_cfg.score_thr': 0.0},
            (2.0, 4, 0.0),
            'model.grouper.min_size=4; given by cfg_options: model.grouper.threshold model.test_cfg.score_thr\n',
        ),
        (
            dict(zip(SETTINGS, (2.0, 3, 0.5), strict=True)),
            (2.0, 3, 0.5),
            f'none is used; given by cfg_options: {" ".join(SETTINGS)}\n',
        ),
    ],
)
def test_the_users_options_are_kept(checkpoint, capsys, options, values, line):
    assert values_of(read_config(config_with(), checkpoint, options)) == values
    assert capsys.readouterr().out == LINE + line


@pytest.mark.parametrize('where', ['config', 'option'])
def test_a_config_without_tuned_settings(checkpoint, capsys, where):
    in_config = {'use_tuned_settings': False} if where == 'config' else {}
    option = {'use_tuned_settings': False} if where == 'option' else None
    assert values_of(read_config(config_with(**in_config), checkpoint, option)) == (1.2, 10, None)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('name', ['other.pth', 'missing.pth', 'https://example.com/epoch_5.pth', None])
def test_checkpoints_without_settings(checkpoint, tmp_path, capsys, name):
    (tmp_path / 'other.pth').write_bytes(b'weights')
    write_tuned(tmp_path / 'other.pth', SETTINGS).rename(tmp_path / 'missing_tuned.json')
    path = str(tmp_path / name) if name and '/' not in name else name
    assert values_of(read_config(config_with(), path)) == (1.2, 10, None)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    ('grouper', 'named'),
    [(dict(type='SeedGrouping', threshold=1.2, min_size=10), 'SeedGrouping'), (None, 'missing')],
)
def test_settings_of_another_grouper_are_not_used(checkpoint, capsys, grouper, named):
    config = config_with()
    config.model.grouper = grouper
    before = config.to_dict()
    with pytest.warns(
        UserWarning, match=f'epoch_5_tuned.json are not used.* CenterGrouping, and the grouper is {named}'
    ):
        merge_tuned_settings(config, checkpoint)
    assert config.to_dict() == before and capsys.readouterr().out == ''


def test_settings_of_another_checkpoint_are_not_used(checkpoint, capsys):
    """A second training has written the file of the first anew."""
    assert file_sha256(checkpoint) == hashlib.sha256(b'weights').hexdigest()
    checkpoint.write_bytes(b'others')
    with pytest.warns(UserWarning, match='are not used, since they are for another checkpoint than .*epoch_5.pth'):
        assert values_of(read_config(config_with(), checkpoint)) == (1.2, 10, None)
    assert capsys.readouterr().out == ''


def changed(**others):
    return lambda content: {**content, **others}


def with_settings(**others):
    return lambda content: {**content, 'settings': {**SETTINGS, **others}}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda content: json.dumps(content)[:50], 'Unterminated string|delimiter'),
        (lambda content: '', 'Expecting value'),
        (lambda content: b'\xff\xfe', 'codec'),
        (lambda content: list(content), "expected a json of tools/tune.py, got one without .*'aim'"),
        (changed(threshold=1.0), r"without \[\], with unknown \['threshold'\]"),
        (lambda content: {k: v for k, v in content.items() if k != 'grouper'}, r"without \['grouper'\]"),
        (changed(images='12'), "expected images of type int, got '12'"),
        (changed(images=True), 'expected images of type int, got True'),
        (changed(after=float('nan')), 'expected after of type float, got nan'),
        (changed(settings={}), 'expected settings by key of the config, got {}'),
        (changed(settings=[1]), r'expected settings by key of the config, got \[1\]'),
        (with_settings(**{'model.grouper.mode': 1}), "expected settings of model.grouper.threshold, .*'model.grouper.mode'"),
        (with_settings(**{'model.grouper.threshold': '1'}), "model.grouper.threshold of type float, at least 0, got '1'"),
        (with_settings(**{'model.grouper.threshold': -1.0}), 'model.grouper.threshold of type float, at least 0, got -1.0'),
        (with_settings(**{'model.grouper.threshold': float('inf')}), 'at least 0, got inf'),
        (with_settings(**{'model.grouper.min_size': 4.5}), 'model.grouper.min_size of type int, at least 0, got 4.5'),
    ],
)  # fmt: skip
def test_a_damaged_json_is_named(checkpoint, change, message):
    path = checkpoint.with_name('epoch_5_tuned.json')
    content = change(json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else
                     (content if isinstance(content, str) else json.dumps(content)).encode())  # fmt: skip
    with pytest.raises(ValueError, match=rf'(?s)epoch_5_tuned\.json: .*({message}).*: run tools/tune.py again, remove'):
        read_config(config_with(), checkpoint)
    assert values_of(read_config(config_with(use_tuned_settings=False), checkpoint)) == (1.2, 10, None)


def test_a_damaged_json_stops_a_tool_with_its_name(checkpoint, monkeypatch):
    checkpoint.with_name('epoch_5_tuned.json').write_text('{')
    monkeypatch.setattr(sys, 'argv', ['test.py', str(REPOSITORY / 'configs/instancenet_digits.py'), str(checkpoint)])
    with pytest.raises(SystemExit, match=r'epoch_5_tuned\.json: Expecting property name'):
        runpy.run_path(str(REPOSITORY / 'tools/test.py'), run_name='__main__')


def test_the_json_is_read_as_it_was_written(checkpoint):
    tuned = read_tuned_settings(checkpoint.with_name('epoch_5_tuned.json'))
    assert tuned.settings == SETTINGS and type(tuned.settings['model.grouper.min_size']) is int
    assert (tuned.grouper, tuned.aim, tuned.before, tuned.after) == ('CenterGrouping', 'accuracy_50', 0.5, 0.7)
    assert (tuned.images, tuned.objects, tuned.date) == (12, 30, '2026-11-27')


def test_every_setting_that_is_tuned_can_be_stored():
    names = {*FIRST_SETTINGS.values(), 'min_size'}
    assert {f'model.grouper.{name}' for name in names} | {'model.test_cfg.score_thr'} == set(KEYS)


def test_nothing_is_warned_of_where_the_settings_are_used(checkpoint):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        read_config(config_with(), checkpoint)
