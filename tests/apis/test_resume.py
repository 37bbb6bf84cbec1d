"""``--resume`` of ``tools/train.py``: the checkpoint from which a training starts."""

import pytest
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
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    config = Config(dict(work_dir=str(tmp_path), load_from=load_from))
    use_checkpoint_to_resume(config, 'auto')
    assert (config.resume, config.load_from) == (True, None)  # MMEngine then looks for the latest
    assert capsys.readouterr().out == ''


def test_a_named_checkpoint_is_resumed(tmp_path):
    config = Config(dict(work_dir=str(tmp_path), load_from='pretrained.pth'))
    use_checkpoint_to_resume(config, 'elsewhere/epoch_2.pth')
    assert (config.resume, config.load_from) == (True, 'elsewhere/epoch_2.pth')
