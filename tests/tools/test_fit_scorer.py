"""tools/fit_scorer.py as a real process on a few digits, with an untrained network and true classes."""

import re
import runpy
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from programs import REPOSITORY, run_program

from mmseg_instancenet.datasets.digits import write_digits
from mmseg_instancenet.models.scorers.score_regressor import FEATURES

DIGITS = 'configs/instancenet_digits.py'


@pytest.fixture(scope='module')
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp('fit')
    write_digits(folder / 'data', num_train=20, num_val=10)
    torch.manual_seed(0)
    init_default_scope('mmseg')
    model = MODELS.build(Config.fromfile(REPOSITORY / DIGITS).model)
    model.init_weights()
    # As every checkpoint from before there was a scorer.
    old = {name: value for name, value in model.state_dict().items() if not name.startswith('instance_scorer')}
    torch.save({'state_dict': old, 'meta': {'epoch': 3}}, folder / 'old.pth')
    options = ['--work-dir', folder / 'work', '--cfg-options', 'model.test_cfg.classes=ground_truth']
    options += [f'{kind}_dataloader.dataset.data_root={folder}/data' for kind in ('train', 'val', 'test')]
    output = run_program(
        'tools/fit_scorer.py', DIGITS, folder / 'old.pth', '--out', folder / 'new.pth', '--images', '15', *options
    )
    return dict(folder=folder, options=options, output=output, old=old)


def test_the_new_checkpoint_is_the_old_one_with_a_scorer(fitted):
    checkpoint = torch.load(fitted['folder'] / 'new.pth', weights_only=True)
    assert checkpoint['meta'] == {'epoch': 3}
    state = checkpoint['state_dict']
    added = sorted(set(state) - set(fitted['old']))
    assert added == ['instance_scorer.bias', 'instance_scorer.weight']
    assert all(torch.equal(state[name], value) for name, value in fitted['old'].items())
    assert state['instance_scorer.weight'].shape == (len(FEATURES),) and state['instance_scorer.weight'].any()


def test_metrics_before_and_after(fitted):
    output = fitted['output']
    for name in FEATURES:
        assert re.search(rf'^{name} +[+-]\d\.\d+', output, re.MULTILINE), output[-3000:]
    rows = {name: re.search(rf'^{name}((?: +-?[0-9.]+){{4}})$', output, re.MULTILINE) for name in
            ('simple formula', 'regressor')}  # fmt: skip
    correlations = {name: [float(value) for value in row.group(1).split()] for name, row in rows.items()}
    assert all(-1 <= value <= 1 for values in correlations.values() for value in values)
    explained = float(re.search(r'explained variance of the IoU, training set: ([0-9.]+)', output).group(1))
    assert 0 < explained <= 1
    assert int(re.search(r'(\d+) instances of the training set', output).group(1)) >= 15


def test_the_scores_are_used(fitted):
    folder = fitted['folder']
    output = run_program('tools/test.py', DIGITS, folder / 'new.pth', *fitted['options'])
    assert re.search(r'loaded (\d+) of the \1 tensors', output), output[-3000:]
    after = re.search(r'^regressor((?: +-?[0-9.]+){4})$', fitted['output'], re.MULTILINE).group(1).split()[2]
    assert float(re.search(r'coco/segm_mAP: ([0-9.]+)', output).group(1)) == pytest.approx(float(after), abs=2e-3)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'out': 'old.pth'}, '--out: expected another file'),
        ({'images': '0'}, '--images: expected at least 1, got 0'),
        ({'config': 'configs/recurrent-embedding_proposals_digits.py'}, 'expected an EmbeddingSegmentor'),
    ],
)
def test_what_is_refused(fitted, changes, message, monkeypatch):
    """In this process, which is quicker."""
    folder = fitted['folder']
    arguments = [
        changes.get('config', DIGITS), folder / 'old.pth', '--out', folder / changes.get('out', 'other.pth'),
        '--images', changes.get('images', '5'), *fitted['options'],
    ]  # fmt: skip
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, 'argv', ['fit_scorer.py', *map(str, arguments)])
    with pytest.raises(SystemExit, match=message):
        runpy.run_path('tools/fit_scorer.py', run_name='__main__')
    assert not (folder / 'other.pth').exists()
