"""tools/test.py --report on a small network without training: its numbers are those of the metrics."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from report_page import ReportPage
from untrained_digits import untrained_digits

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
_base_ = '{root}/configs/instancenet_digits.py'
model = dict(test_cfg=dict(classes='ground_truth'))  # a network without training has some hits then
test_evaluator = [dict(type='CocoInstanceMetric', metric='segm'), dict(type='CountingMetric')]
"""


def test_report_of_digits(tmp_path, monkeypatch, capsys):
    (tmp_path / 'digits.py').write_text(CONFIG.format(root=ROOT))
    _, options = untrained_digits(tmp_path / 'digits.py', tmp_path, num_val=8)
    arguments = [tmp_path / 'digits.py', tmp_path / 'untrained.pth', '--work-dir', tmp_path / 'work']
    arguments += ['--report', tmp_path / 'reports', '--cfg-options', *options]
    monkeypatch.setattr(sys, 'argv', ['test.py', *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools/test.py'), run_name='__main__')
    output = capsys.readouterr().out
    file = tmp_path / 'reports/report.html'
    assert f'report: {file}' in output
    metrics = {key: float(value) for key, value in re.findall(r'((?:coco|counting)/\w+): ([-\d.]+)', output)}

    page = ReportPage(file)
    assert page.root.find('.//h1').text == 'Test of digits'
    assert page.facts['config'] == str(tmp_path / 'digits.py') and page.facts['images'] == '8'
    assert f'model.decode_head.channels={8}' in page.facts['settings']
    limited, everything = (
        page.row('Average precision of masks', name) for name in ('100 with the highest scores', 'all')
    )
    assert float(limited['AP']) == pytest.approx(metrics['coco/segm_mAP'], abs=6e-4)
    assert float(limited['AP50']) == pytest.approx(metrics['coco/segm_mAP_50'], abs=6e-4)
    assert float(everything['AP']) == pytest.approx(metrics['coco/segm_mAP_all'], abs=6e-4)
    counts = dict(page.tables['Count errors'][1:])
    differences = [
        counts[f'{name}, mean over the images'] for name in ('predicted minus true count', 'absolute difference')
    ]
    expected = [metrics['counting/DiC'], metrics['counting/abs_DiC']]
    assert [float(value) for value in differences] == pytest.approx(expected, abs=6e-3)
    assert len(page.tables['Average precision by class and size']) == 1 + 10
    assert page.captions('Splits') and len(page.images) > 10
