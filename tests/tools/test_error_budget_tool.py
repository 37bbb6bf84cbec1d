"""tools/analysis/error_budget.py on a small network without training: its numbers are those of the metrics."""

import json
import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from untrained_digits import untrained_digits

from mmseg_instancenet.evaluation.functional.budget_corrections import CORRECTIONS

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
_base_ = '{root}/configs/instancenet_digits.py'
model = dict(test_cfg=dict(classes='ground_truth'))  # a network without training has some hits then
test_evaluator = [dict(type='CocoInstanceMetric', metric='segm'), dict(type='CountingMetric')]
"""


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """Arguments of a tool for eight images."""
    folder = tmp_path_factory.mktemp('digits')
    (folder / 'digits.py').write_text(CONFIG.format(root=ROOT))
    _, options = untrained_digits(folder / 'digits.py', folder, num_val=8)
    return [folder / 'digits.py', folder / 'untrained.pth', '--work-dir', folder / 'work', '--cfg-options', *options]


@pytest.fixture
def run(monkeypatch, capsys):
    def run_tool(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', ['tool', *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        return capsys.readouterr().out

    return run_tool


def test_budget_of_digits(digits, run, tmp_path):
    output = run('analysis/error_budget.py', *digits, '--out', tmp_path, '--resamples', 3)
    report = json.loads((tmp_path / 'budget.json').read_text())
    assert report['images'] == 8 and report['objects'] > 8 and report['detections'] > 8
    for name, measure in report['measures'].items():
        assert list(measure['parts']) == list(CORRECTIONS)
        assert sum(part['in_turn'] for part in measure['parts'].values()) == pytest.approx(1 - measure['value'])
        assert f'| {name} ' in output and f'{measure["value"]:.3f} [' in output
    assert report['measures']['AP']['parts']['resolution']['in_turn'] >= 0

    tested = run('test.py', *digits)
    metrics = dict(re.findall(r'(coco/segm_mAP_all|counting/mean_accuracy|counting/accuracy_50): ([\d.]+)', tested))
    for name, key in {
        'AP': 'coco/segm_mAP_all', 'AP*': 'counting/mean_accuracy', 'AP*50': 'counting/accuracy_50',
    }.items():  # fmt: skip
        assert report['measures'][name]['value'] == pytest.approx(float(metrics[key]), abs=6e-4)

    entries = [entry for worst in report['worst'].values() for entry in worst]
    assert {path.name for path in (tmp_path / 'worst').iterdir()} == {Path(entry['file']).name for entry in entries}
    assert all(len(worst) <= 8 for worst in report['worst'].values()) and report['worst']['splits']
    for kind, worst in report['worst'].items():
        assert [entry['severity'] for entry in worst] == sorted((entry['severity'] for entry in worst), reverse=True)
        assert len(worst) == min(8, report['numbers'][kind]) or kind in ('ranking', 'boundaries', 'resolution')
    for entry in entries:
        drawing, image = cv2.imread(str(tmp_path / entry['file'])), cv2.imread(entry['image'])
        left, top, right, bottom = entry['box']
        assert 0 <= left < right <= image.shape[1] and 0 <= top < bottom <= image.shape[0]
        assert drawing.shape[0] == 256 + 24 and len(np.unique(drawing)) > 2


def test_some_images_only(digits, run, tmp_path):
    run('analysis/error_budget.py', *digits, '--out', tmp_path, '--resamples', 1, '--images', 3)
    assert json.loads((tmp_path / 'budget.json').read_text())['images'] == 3


@pytest.mark.parametrize('option', ['--images', '--resamples'])
def test_numbers_below_one_are_refused(digits, run, option):
    with pytest.raises(SystemExit, match=f'{option}: expected at least 1, got 0'):
        run('analysis/error_budget.py', *digits, option, 0)
