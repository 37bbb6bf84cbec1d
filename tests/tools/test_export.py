"""tools/export.py on an untrained network for digits: DeepLabV3+'s head, center grouping, coordinates; and its errors."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from untrained_digits import untrained_digits

TOOL = Path(__file__).parents[2] / 'tools/export.py'
PROGRAMS = {'predict.py', 'grouping.py', 'mean_shift.py'}
CONFIG = TOOL.parents[1] / 'configs/instancenet_digits.py'


def run(monkeypatch, capsys, *arguments) -> str:
    """Runs the tool in this process; returns its output, or the message with which it ends."""
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    monkeypatch.setattr(sys, 'path', sys.path.copy())
    try:
        runpy.run_path(str(TOOL), run_name='__main__')
    except SystemExit as end:
        captured = capsys.readouterr()
        return f'{captured.out}{captured.err}{end.code}'
    return capsys.readouterr().out


def test_check_finds_the_same_objects(tmp_path, monkeypatch, capsys):
    for name in ('onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -e '.[export]'")
    if tuple(map(int, torch.__version__.split('+')[0].split('.')[:2])) < (2, 6):
        pytest.skip(f'torch {torch.__version__} has no exporter for networks at any sizes')
    _, options = untrained_digits(CONFIG, tmp_path, num_val=3)
    # Untrained, it finds background alone: here, none.
    checkpoint = torch.load(tmp_path / 'untrained.pth', weights_only=False)
    torch.manual_seed(0)
    torch.nn.init.normal_(checkpoint['state_dict']['decode_head.conv_seg.weight'])
    checkpoint['state_dict']['decode_head.conv_seg.bias'][0] = -100
    torch.save(checkpoint, tmp_path / 'untrained.pth')
    arguments = (CONFIG, tmp_path / 'untrained.pth', '--out', tmp_path / 'out/model.onnx', '--check', '--images', 2)
    output = run(monkeypatch, capsys, *arguments, '--cfg-options', *options)
    count, total = map(int, re.search(r'^(\d+) images, (\d+) instances$', output, re.MULTILINE).groups())
    assert count == 2 and total > 4
    # Untrained, embeddings are nearly a grid of positions: many pixels are equally far from a centre, and rounding decides.
    same = int(re.search(r'^  the same \(IoU above \.99, one class\): (\d+) = ', output, re.MULTILINE)[1])
    assert 0.5 * total < same <= total
    assert re.search(r'^coco/segm_mAP_all +\S+ +\S+ +-?0\.0\d+$', output, re.MULTILINE)
    assert re.search(r'^  predict.py, objects +\d', output, re.MULTILINE)
    assert {path.name for path in (tmp_path / 'out').glob('*.*')} == {'model.onnx', *PROGRAMS}
    for name in PROGRAMS:
        assert len((tmp_path / 'out' / name).read_text().splitlines()) <= 200


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nuclei', '--out', 'model.pt'], r'--out: expected a file that ends in \.onnx, got model\.pt'),
        (['nuclei', '--out', 'model.onnx', '--images', '0'], '--images: expected at least 1, got 0'),
        (['leaves', '--out', 'model.onnx'], r"shipped model \(nuclei\).*got 'leaves'"),
        (
            ['nuclei', '--out', 'model.onnx', '--cfg-options', 'model.grouper.max_instances=5'],
            'max_instances: expected None for an export, got 5',
        ),
    ],
)
def test_wrong_arguments_get_a_line(monkeypatch, capsys, tmp_path, arguments, message):
    if 'max_instances' in message:
        pytest.importorskip('onnxscript', reason="onnxscript is not installed: pip install -e '.[export]'")
    monkeypatch.chdir(tmp_path)
    assert re.search(message, run(monkeypatch, capsys, *arguments))
    assert not list(tmp_path.iterdir())


def test_packages_that_are_missing_are_named(monkeypatch, capsys, tmp_path):
    arguments = ('nuclei', '--out', tmp_path / 'model.onnx')
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    monkeypatch.setattr('mmseg_instancenet.export.files.metadata.version', lambda name: '2.6.0+cpu')
    assert 'an export needs onnx' in run(monkeypatch, capsys, *arguments)
    monkeypatch.setattr('mmseg_instancenet.export.files.metadata.version', lambda name: '2.5.1+cu121')
    assert 'an export needs torch 2.6 or newer, found 2.5.1+cu121: pip install' in run(monkeypatch, capsys, *arguments)
