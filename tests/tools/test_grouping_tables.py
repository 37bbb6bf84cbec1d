"""tools/analysis/grouping_tables.py with every grouper: its rows, and their settings."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from untrained_digits import untrained_digits

ROOT = Path(__file__).resolve().parents[2]
MODELS = {
    'centers': "_base_ = '{root}/configs/instancenet_digits.py'",
    'mean shift': "_base_ = '{root}/configs/recurrent-embedding_digits.py'",
    'classes': """
_base_ = '{root}/configs/instancenet_digits.py'
model = dict(grouper=dict(_delete_=True, type='ClassGrouping'))
""",
    'seeds': """
_base_ = '{root}/configs/instancenet_digits.py'
model = dict(
    decode_head=dict(loss_embedding=dict(_delete_=True, type='SoftMaskLoss')),
    grouper=dict(_delete_=True, type='SeedGrouping', class_agnostic=True, min_size=10),
    group_scorer=dict(_delete_=True, type='SeedScorer'),
)
""",
}


@pytest.fixture(scope='module')
def networks(tmp_path_factory):
    """For each kind of network the config, an untrained checkpoint and the options for six digits images; made on
    request."""
    made = {}

    def network(kind: str) -> list:
        if kind not in made:
            folder = tmp_path_factory.mktemp('digits')
            (folder / 'digits.py').write_text(MODELS[kind].format(root=ROOT))
            _, options = untrained_digits(folder / 'digits.py', folder, num_val=6)
            made[kind] = [
                folder / 'digits.py',
                folder / 'untrained.pth',
                '--work-dir',
                folder,
                '--cfg-options',
                *options,
            ]
        return made[kind]

    return network


@pytest.fixture
def tables(networks, monkeypatch, tmp_path, capsys):
    """Runs the tool in this process; returns its json and its output."""

    def run(kind: str, *arguments) -> tuple[dict, str]:
        out = tmp_path / 'tables.json'
        command = ['tables', *networks(kind), *arguments, '--out', out]
        monkeypatch.setattr(sys, 'argv', [*map(str, command)])
        runpy.run_path(str(ROOT / 'tools/analysis/grouping_tables.py'), run_name='__main__')
        return json.loads(out.read_text()), capsys.readouterr().out

    return run


def by_name(rows: list[dict]) -> dict:
    """Metrics of each row by its grouper and classes."""
    return {(row['grouping'], row['classes']): row['segm_mAP'] for row in rows}


@pytest.mark.parametrize(
    ('kind', 'name', 'first', 'curve'),
    [
        ('mean shift', 'MeanShiftGrouping', 'concentration 100', [25, 39.7, 64, 100, 159, 256, 400, 625]),
        ('seeds', 'SeedGrouping', 'mask_threshold 0.5', [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
    ],
)
def test_the_tables_of_every_grouper(tables, kind, name, first, curve):
    metrics, output = tables(kind)
    table_1, table_2 = by_name(metrics['Table 1']), by_name(metrics['Table 2'])
    assert list(table_1) == [(name, 'predicted'), (name, 'ground_truth')]
    assert list(table_2) == [(f'{value:g}', 'ground_truth') for value in curve]
    configured = first.split()[1]
    assert table_2[configured, 'ground_truth'] == table_1[name, 'ground_truth'] > 0
    assert len(set(table_2.values())) > 1
    assert f'Table 1: {first}\n' in output and f'Table 2: {name}, AP against {first.split()[0]}\n' in output
    assert [row['classes'] for row in metrics['Scores']] == ['predicted', 'ground_truth']
    assert metrics['Scores'][1]['AP'] == table_1[name, 'ground_truth']
    assert len(metrics['Baselines']) == 4


def test_other_groupers_of_the_command_line(tables):
    """A grouper with the settings of the config is the config's; one as wide as the embeddings is one group an image."""
    common = ['class_agnostic=True', 'min_size=10']
    metrics, output = tables(
        'centers', '--thresholds', '1.2', '1000',
        '--grouper', 'type=CenterGrouping', 'mode=fixed', *common,
        '--grouper', 'type=MeanShiftGrouping', 'kernel=norm', 'concentration=1e-6', *common,
    )  # fmt: skip
    table_1 = by_name(metrics['Table 1'])
    names = ['center-fixed', 'center-shift', 'center-fixed, threshold 1.2', 'MeanShiftGrouping, concentration 1e-06']
    assert list(table_1) == [(name, classes) for classes in ('predicted', 'ground_truth') for name in names]
    for classes in ('predicted', 'ground_truth'):
        assert table_1['center-fixed, threshold 1.2', classes] == table_1['center-fixed', classes]
    wide = by_name(metrics['Table 2'])['1000', 'ground_truth']
    assert table_1[names[3], 'ground_truth'] == wide != table_1['center-fixed', 'ground_truth']
    # The longest name widens the first column.
    rows = [line for line in output.splitlines() if ' ground_truth ' in line or ' predicted ' in line][:8]
    assert {line.index('predicted' if ' predicted ' in line else 'ground_truth') for line in rows} == {39}


def test_the_mode_of_table_2(tables):
    fixed, output = tables('centers', '--thresholds', '1.2', '--mode', 'fixed', '--classes', 'predicted')
    assert 'Table 2: center-fixed, AP against threshold' in output
    assert by_name(fixed['Table 2'])['1.2', 'predicted'] == by_name(fixed['Table 1'])['center-fixed', 'predicted']


@pytest.mark.parametrize(
    ('kind', 'arguments', 'message'),
    [
        ('classes', [], 'expected one of CenterGrouping, MeanShiftGrouping, SeedGrouping in .*, got ClassGrouping'),
        ('mean shift', ['--mode', 'fixed'], '--mode: expected a CenterGrouping in .*, got MeanShiftGrouping'),
        ('centers', ['--thresholds', '0'], r'--thresholds: expected values > 0, got \[0.0\]'),
        ('seeds', ['--thresholds', '1.5'], r'expected mask_threshold in \(0, 1\), got 1.5'),
        ('centers', ['--grouper', 'threshold=1'], "--grouper {'threshold': 1}.*type"),
        ('centers', ['--grouper', 'type=MeanShiftGrouping', 'width=1'], "--grouper .*'width'"),
        ('centers', ['--grouper', 'type=NoGrouping'], '--grouper .*NoGrouping is not in the'),
        ('centers', ['--grouper', 'type=ClassGrouping'], 'expected one of .* in --grouper, got ClassGrouping'),
        ('centers', ['--grouper', 'type=SeedGrouping'], '--grouper .*expected a loss that trains bandwidths and seeds'),
        ('seeds', ['--grouper', 'type=CenterGrouping'], 'expected a SeedGrouping for a network with seeds, got Cent'),
    ],
)
def test_what_is_refused(tables, kind, arguments, message):
    with pytest.raises(SystemExit, match=message):
        tables(kind, *arguments)
