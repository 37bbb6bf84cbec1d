"""``--resume`` of ``tools/train.py``: the checkpoint from which a training starts."""

import pytest
import torch
from mmengine.config import Config

from mmseg_instancenet.apis.command_line import use_checkpoint_to_resume


@pytest.mark.parametrize('load_from', [None, 'pretrained.pth', 'https://somewhere/weights.pth'])
def test_without_a_checkpoint_load_from_is_used(tmp_path, capsys, load_from):
    config = Config(dict(work_dir=str(tmp_path / 'not made yet'), load_from=load_from, resume=False))
    use_checkpoint_to_resume(config, 'auto')
    assert (config.resume, config.load_from) == (False, load_from)
    assert f'the training begins with load_from={load_from}' in capsys.readouterr().out


@pytest.mark.parametrize('load_from', [None, 'pretrained.pth'])
def test_the_latest_checkpoint_overrides_load_from(tmp_path, capsys, load_from):
    torch.save({'meta': {'iter': 3}}, tmp_path / 'epoch_3.pth')
    config = Config(dict(work_dir=str(tmp_path), load_from=load_from))
    use_checkpoint_to_resume(config, 'auto')
    assert (config.resume, config.load_from) == (True, str(tmp_path / 'epoch_3.pth'))
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(('of_config', 'expected'), [(None, 7), (5, 5)])
def test_a_config_without_a_seed_gets_that_of_the_checkpoint(tmp_path, of_config, expected):
    torch.save({'meta': {'iter': 3, 'seed': 7}}, tmp_path / 'epoch_3.pth')
    config = Config(dict(work_dir=str(tmp_path), randomness=dict(seed=of_config, deterministic=True)))
    use_checkpoint_to_resume(config, 'auto')
    assert config.randomness == dict(seed=expected, deterministic=True)


def test_a_damaged_checkpoint_is_named_and_left_out(tmp_path, capsys):
    torch.save({'meta': {'iter': 2}}, tmp_path / 'epoch_2.pth')
    (tmp_path / 'epoch_3.pth').write_bytes((tmp_path / 'epoch_2.pth').read_bytes()[:-50])
    config = Config(dict(work_dir=str(tmp_path)))
    use_checkpoint_to_resume(config, 'auto')
    assert config.load_from == str(tmp_path / 'epoch_2.pth')
    assert f'{tmp_path / "epoch_3.pth"} is damaged and left out: File is not a zip file' in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r'epoch_3.pth is damaged: .* takes the latest whole one'):
        use_checkpoint_to_resume(config, str(tmp_path / 'epoch_3.pth'))


def test_a_named_checkpoint_is_resumed(tmp_path):
    config = Config(dict(work_dir=str(tmp_path), load_from='pretrained.pth'))
    use_checkpoint_to_resume(config, 'elsewhere/epoch_2.pth')
    assert (config.resume, config.load_from) == (True, 'elsewhere/epoch_2.pth')
