"""Statistics of an ablation against values computed by hand, and the settings in which configs differ."""

import csv
import io

import pytest
from mmengine.config import Config

from mmseg_instancenet.analysis.ablation import (
    METHOD,
    config_differences,
    effective_settings,
    markdown_table,
    mean_and_deviation,
    paired_difference,
    summarize,
    table_columns,
)


@pytest.mark.parametrize(
    ('values', 'mean', 'deviation'),
    [
        ([2, 4, 4, 4, 5, 5, 7, 9], 5, (32 / 7) ** 0.5),  # squares 9 1 1 1 0 0 4 16
        ([0.5, 0.75], 0.625, 0.125 * 2**0.5),
        ([3, 3, 3], 3, 0),
        ([-1.5], -1.5, None),
    ],
)
def test_mean_and_deviation(values, mean, deviation):
    spread = mean_and_deviation(values)
    assert (spread.mean, spread.deviation) == pytest.approx((mean, deviation))
    assert spread.number == len(values)


def test_no_value_is_refused():
    with pytest.raises(ValueError, match='expected at least one value, got none'):
        mean_and_deviation([])


@pytest.mark.parametrize(
    # Quantiles of Student's t at 0.975 from a printed table: 12.706, 4.303, 3.182 for 1, 2, 3 degrees of freedom.
    ('differences', 'deviation', 'half'),
    [
        ([1, 3], 2**0.5, 12.706),  # 12.706 * sqrt(2) / sqrt(2)
        ([1, 2, 6], 7**0.5, 4.303 * (7 / 3) ** 0.5),
        ([-1, 0, 0, 1], (2 / 3) ** 0.5, 3.182 * (1 / 6) ** 0.5),
    ],
)
def test_the_difference_is_paired_by_seed(differences, deviation, half):
    """The values of the seeds lie far apart, their differences do not; seeds of one config alone do not count."""
    baseline = {seed: 100.0 * seed for seed in range(len(differences) + 1)}
    values = {seed: baseline[seed] + change for seed, change in reversed(list(enumerate(differences)))} | {77: 5.0}
    found = paired_difference(values, baseline)
    mean = sum(differences) / len(differences)
    assert (found.mean, found.deviation, found.number) == pytest.approx((mean, deviation, len(differences)))
    assert found.interval == pytest.approx((mean - half, mean + half), rel=2e-4)


def test_one_pair_has_no_interval_and_no_pair_no_difference():
    assert paired_difference({0: 3.0, 1: 9.0}, {0: 1.0}) == (2.0, None, 1, None)
    assert paired_difference({0: 3.0}, {1: 1.0}) is None


RUNS = {
    'base': {0: {'AP': 0.5, 'mIoU': 60.0}, 1: {'AP': 0.75, 'mIoU': 70.0}},
    'other': {0: {'AP': 0.75}, 1: {'AP': 0.75, 'mIoU': 80.0}, 2: {'AP': 0.25, 'mIoU': 90.0}},
    'later': {2: {'AP': 0.25, 'mIoU': 50.0}},
    'none': {},
}


def test_a_row_has_a_metric_of_all_its_runs_or_names_the_missing():
    rows = {(row.config, row.metric): row for row in summarize(RUNS, ['AP', 'mIoU', 'PQ'])}
    assert len(rows) == 12
    assert rows['base', 'mIoU'].values.mean == 65 and rows['base', 'mIoU'].difference is None
    assert rows['other', 'AP'].values.mean == pytest.approx(7 / 12)
    assert rows['other', 'AP'].difference[:3] == pytest.approx((0.125, 0.125 * 2**0.5, 2))
    assert (rows['other', 'mIoU'].values, rows['other', 'mIoU'].missing) == (None, (0,))
    assert rows['later', 'AP'].values == (0.25, None, 1) and rows['later', 'AP'].difference is None
    assert rows['none', 'AP'][2:] == (None, None, ())
    assert all(rows[name, 'PQ'].missing == tuple(RUNS[name]) for name in RUNS)


def test_table():
    notes = {name: [f'note of {name}', '  part'] for name in RUNS}
    text = markdown_table(summarize(RUNS, ['AP', 'mIoU']), {'base': 1.25, 'other': 2, 'later': 3}, notes)
    assert text.splitlines()[2:10] == [
        '| base | AP | 2 | 0.625 ± 0.177 | baseline | | | 1.2 |',
        '| base | mIoU | 2 | 65 ± 7.07 | baseline | | | 1.2 |',
        '| other | AP | 3 | 0.5833 ± 0.289 | +0.125 ± 0.177 | 2 | -1.46 to +1.71 | 2.0 |',
        '| other | mIoU | | missing in seed 0 | | | | 2.0 |',
        '| later | AP | 1 | 0.25 | no pair | | | 3.0 |',
        '| later | mIoU | 1 | 50 | no pair | | | 3.0 |',
        '| none | AP | | no run | | | | |',
        '| none | mIoU | | no run | | | | |',
    ]
    assert all(f'- {line}' in text for line in METHOD)
    assert text.endswith('`none`\n\n- note of none\n  - part\n')


def test_columns_of_the_csv():
    rows = summarize(RUNS, ['AP'])
    columns = [table_columns(row, 2.0) for row in rows]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(columns[0]))
    writer.writeheader()
    writer.writerows(columns)
    base, other, later, none = csv.DictReader(io.StringIO(file.getvalue()))
    assert base['difference'] == base['pairs'] == none['mean'] == none['runs'] == later['deviation'] == ''
    assert float(base['mean']) == 0.625 and later['runs'] == '1'
    assert float(other['low_95']) == rows[1].difference.interval[0]
    assert float(other['high_95']) == rows[1].difference.interval[1]
    assert float(other['difference_deviation']) == rows[1].difference.deviation


BASE = dict(
    width=8,  # a variable
    model=dict(type='A', width=8, loss=dict(type='L', margin=1.0), in_index=(0, 3), heads=[dict(k=1), dict(k=2)]),
    train_dataloader=dict(dataset=dict(pipeline=[dict(type='Load'), dict(type='Flip', prob=0.5)])),
    custom_imports=dict(imports=['x']),
    load_from=None,
    work_dir='a',
)


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'width': 9, 'work_dir': 'b', 'launcher': 'slurm', 'resume': True}, {}),  # no effect on the training
        ({'model.in_index': [0, 3]}, {}),  # a tuple and a list are one setting
        ({'model.in_index': [0, 2]}, {'model.in_index': ([0, 3], [0, 2])}),
        ({'model.heads.1.k': 5}, {'model.heads.1.k': (2, 5)}),
        ({'model.frozen': None}, {'model.frozen': ('not set', None)}),
        ({'model.width': True}, {'model.width': (8, True)}),
        ({'model.loss.margin': 1}, {'model.loss.margin': (1.0, 1)}),
        ({'train_dataloader.dataset.pipeline': [{'type': 'Load'}]},
         {'train_dataloader.dataset.pipeline.1.type': ('Flip', 'not set'),
          'train_dataloader.dataset.pipeline.1.prob': (0.5, 'not set')}),
        ({'load_from': 'x.pth', 'custom_imports.imports': ['y'], 'compile': True},
         {'load_from': (None, 'x.pth'), 'custom_imports.imports': (['x'], ['y']), 'compile': ('not set', True)}),
    ],
)  # fmt: skip
def test_config_differences(changes, expected):
    other = Config(BASE)
    other.merge_from_dict(changes)
    assert config_differences(effective_settings(Config(BASE)), effective_settings(other)) == expected


def test_a_replaced_part_differs_in_all_that_it_has():
    other = Config(BASE)
    other.merge_from_dict({'model.loss': dict(_delete_=True, type='M', bandwidth=2)})
    assert config_differences(effective_settings(Config(BASE)), effective_settings(other)) == {
        'model.loss.type': ('L', 'M'),
        'model.loss.margin': (1.0, 'not set'),
        'model.loss.bandwidth': ('not set', 2),
    }


def test_empty_parts_are_values():
    assert effective_settings(Config(dict(model=dict(a={}, b=[], c=[[1], [2, 3]])))) == {
        'model.a': {},
        'model.b': [],
        'model.c.0': [1],
        'model.c.1': [2, 3],
    }
