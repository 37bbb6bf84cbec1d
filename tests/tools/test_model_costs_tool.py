"""tools/analysis/model_costs.py, as a program."""

import json

import pytest
from programs import run_program

TOOL = 'tools/analysis/model_costs.py'


def test_table_and_json(tmp_path):
    out = tmp_path / 'costs/costs.json'
    options = ['--shape', '64', '64', '--device', 'cpu', '--repeats', '1', '--train-images', '0', '--out', out]
    output = run_program(TOOL, 'configs/instancenet_digits.py', 'nuclei', *options)
    rows = json.loads(out.read_text())
    assert set(rows) == {'instancenet_digits', 'nuclei'}
    assert rows['nuclei']['parameters'] == 1817110 and rows['nuclei']['size'] == [64, 64]
    assert rows['nuclei']['num_instances'] == 16 and rows['nuclei']['train_bytes'] is None
    lines = [line for line in output.splitlines() if line.startswith('| ')]
    table = {cells[1].strip(): [cell.strip() for cell in cells[2:]] for cells in (line.split('|') for line in lines)}
    gflops = rows['nuclei']['flop_count']['flops'] / 1e9
    assert table['nuclei'][:3] == ['64 x 64', '1.82', f'{gflops:.3g}']


@pytest.mark.parametrize(
    'model, message',
    [
        ('configs/instancenet_digits.py', 'expected a test pipeline with ResizeLongerSide or Resize'),
        ('nucleus', 'expected the name of a shipped model (nuclei), a config file or the folder of a training'),
    ],
)
def test_errors(model, message):
    assert f'{model}: {message}' in run_program(TOOL, model, '--device', 'cpu', succeeds=False)
