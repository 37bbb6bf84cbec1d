"""Comparison of configs over several seeds: mean and standard deviation, paired difference to a baseline, settings that
differ, and the table."""

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from scipy.stats import t as student_t

NOT_SET = 'not set'
"""Stands for the value of a setting that one of two configs lacks."""

METHOD = (
    'mean, difference: ± the standard deviation over the seeds, with n - 1 in the denominator',
    'difference: a run of the config minus the run of the baseline with the same seed',
    "95 % interval: of the mean difference, by Student's t with pairs - 1 degrees of freedom, for one comparison",
    'minutes: of a training with its validations, by the clock, mean over the seeds',
)
"""How the columns of the table are computed."""

# Keys that MMEngine's runner reads beside its arguments. All others are variables that config files share.
_FURTHER_KEYS = (
    *('activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval', 'find_unused_parameters'),
    *('model_wrapper_cfg', 'runner_type', 'sync_bn'),
)
_OF_ONE_RUN = ('cfg', 'work_dir', 'launcher', 'resume', 'experiment_name')


class Spread(NamedTuple):
    """``mean``; ``deviation``, the standard deviation, ``None`` for one value; ``number`` of the values."""

    mean: float
    deviation: float | None
    number: int


class PairedDifference(NamedTuple):
    """``mean``, ``deviation`` (``None`` for one pair) and ``number`` of the differences; ``interval``, lower and upper end of
    the 95 % interval of the mean, ``None`` for one pair."""

    mean: float
    deviation: float | None
    number: int
    interval: tuple[float, float] | None


class Row(NamedTuple):
    """One metric of one config. ``values`` is ``None`` if no run has the metric, or one of them lacks it; ``missing`` lists
    the seeds of these. ``difference`` is ``None`` for the baseline, and where no seed has both values."""

    config: str
    metric: str
    values: Spread | None
    difference: PairedDifference | None
    missing: tuple[int, ...]


def mean_and_deviation(values: Iterable[float]) -> Spread:
    """Mean and standard deviation, sqrt(sum (x - mean)^2 / (n - 1)).

    Args:
        values: at least one.

    Raises:
        ValueError: without a value.

    Example:
        >>> mean_and_deviation([1.0, 2.0, 6.0])
        Spread(mean=3.0, deviation=2.6457513110645907, number=3)
    """
    x_N = np.fromiter(values, float)
    if not len(x_N):
        raise ValueError('expected at least one value, got none')
    return Spread(float(x_N.mean()), float(x_N.std(ddof=1)) if len(x_N) > 1 else None, len(x_N))


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference | None:
    """Mean of the differences of runs with equal seeds, with its 95 % interval by Student's t.

    With d_s = values[s] - baseline[s] over the n seeds s that both have, and their standard deviation D, the interval is
    mean(d) -+ t(0.975, n - 1) D / sqrt(n).

    Args:
        values, baseline: of each seed.

    Returns:
        ``None`` if they share no seed.

    Example:
        >>> difference = paired_difference({0: 0.5, 1: 0.75, 2: 0.9}, {0: 0.25, 1: 0.25})
        >>> difference[:3], [round(end, 4) for end in difference.interval]
        ((0.375, 0.1767766952966369, 2), [-1.2133, 1.9633])
    """
    seeds = [seed for seed in values if seed in baseline]
    if not seeds:
        return None
    spread = mean_and_deviation(values[seed] - baseline[seed] for seed in seeds)
    if spread.deviation is None:
        return PairedDifference(*spread, None)
    half = float(student_t.ppf(0.975, spread.number - 1)) * spread.deviation / math.sqrt(spread.number)
    return PairedDifference(*spread, (spread.mean - half, spread.mean + half))


def summarize(runs: Mapping[str, Mapping[int, Mapping[str, float]]], metrics: Sequence[str]) -> list[Row]:
    """One row for each config and metric; the differences are to the first config.

    Args:
        runs: for each config and seed the metrics of a run.
        metrics: names of the rows.

    Example:
        >>> runs = {'base': {0: {'AP': 0.5}, 1: {'AP': 0.75}}, 'other': {0: {'AP': 0.25}, 1: {}}}
        >>> first, second = summarize(runs, ['AP'])
        >>> first.values.mean, first.difference, second.values, second.missing
        (0.625, None, None, (1,))
    """
    rows = []
    baseline = next(iter(runs))
    for config, of_seed in runs.items():
        for metric in metrics:
            values = _values(of_seed, metric)
            missing = tuple(seed for seed in of_seed if seed not in values)
            whole = bool(values) and not missing
            rows.append(
                Row(
                    config,
                    metric,
                    mean_and_deviation(values.values()) if whole else None,
                    paired_difference(values, _values(runs[baseline], metric))
                    if whole and config != baseline
                    else None,
                    missing,
                )
            )
    return rows


def _values(of_seed: Mapping[int, Mapping[str, float]], metric: str) -> dict[int, float]:
    return {seed: metrics[metric] for seed, metrics in of_seed.items() if metric in metrics}


def effective_settings(config: Config) -> dict[str, Any]:
    """The settings of a config that have an effect on a run: what MMEngine's runner reads, flattened.

    Variables of config files are left out (their values arrive where the runner reads them), and so are work dir, launcher and
    the like, which differ from run to run. Settings of ``tta_model`` and ``tta_pipeline`` are read by ``tools/test.py --tta``
    alone and are left out too.

    Example:
        >>> effective_settings(Config(dict(width=8, model=dict(type='A', width=8), work_dir='x')))
        {'model.type': 'A', 'model.width': 8}
    """
    names = {*inspect.signature(Runner).parameters, *_FURTHER_KEYS} - set(_OF_ONE_RUN)
    return flatten_settings({name: value for name, value in config.to_dict().items() if name in names})


def flatten_settings(settings: Mapping[str, Any] | Sequence[Any], prefix: str = '') -> dict[str, Any]:
    """Nested settings as one dict, keys joined by dots as ``--cfg-options`` has them, tuples as lists.

    A list without a dict or list in it is one value; so are an empty dict and an empty list. ``None`` is a value.

    Example:
        >>> flatten_settings({'model': {'in_index': (0, 3), 'heads': [{'type': 'A'}, {'type': 'B'}]}})
        {'model.in_index': [0, 3], 'model.heads.0.type': 'A', 'model.heads.1.type': 'B'}
    """
    items = settings.items() if isinstance(settings, Mapping) else enumerate(settings)
    flat: dict[str, Any] = {}
    for key, value in items:
        name = f'{prefix}{key}'
        sequence = isinstance(value, (list, tuple))
        if (isinstance(value, Mapping) and value) or (
            sequence and any(isinstance(part, (Mapping, list, tuple)) for part in value)
        ):
            flat.update(flatten_settings(value, f'{name}.'))
        else:
            flat[name] = list(value) if sequence else value
    return flat


def config_differences(baseline: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings in which two configs differ: of each the value in the baseline and in the other.

    Args:
        baseline, other: of :func:`effective_settings`.

    Returns:
        in the order of the baseline, then those of the other alone; :data:`NOT_SET` in place of a value that is not there.

    Example:
        >>> config_differences({'loss.type': 'A', 'loss.margin': 1, 'lr': 0.1}, {'loss.type': 'B', 'loss.p': 2, 'lr': 0.1})
        {'loss.type': ('A', 'B'), 'loss.margin': (1, 'not set'), 'loss.p': ('not set', 2)}
    """
    # repr: 1, 1.0 and True are equal in Python, and NaN is not equal to itself.
    return {
        name: (baseline.get(name, NOT_SET), other.get(name, NOT_SET))
        for name in dict.fromkeys((*baseline, *other))
        if name not in baseline or name not in other or repr(baseline[name]) != repr(other[name])
    }


def markdown_table(rows: Sequence[Row], minutes: Mapping[str, float], notes: Mapping[str, Sequence[str]]) -> str:
    """The table in Markdown, :data:`METHOD` below it, and a list of notes for each config.

    Args:
        rows: of :func:`summarize`.
        minutes: for each config that has a run.
        notes: for each config the lines of a list below the table: its settings, seeds and versions. A line that begins with two
            spaces belongs to the line before it.

    Example:
        >>> rows = summarize({'base': {0: {'AP': 0.5}, 1: {'AP': 0.75}}, 'other': {0: {'AP': 0.625}}}, ['AP'])
        >>> print(markdown_table(rows, {'base': 3.0, 'other': 2.5}, {'base': ['baseline']}).partition('\\n\\n')[0])
        | config | metric | runs | mean | difference | pairs | 95 % interval | minutes |
        |---|---|---|---|---|---|---|---|
        | base | AP | 2 | 0.625 ± 0.177 | baseline | | | 3.0 |
        | other | AP | 1 | 0.625 | +0.125 | 1 | | 2.5 |
    """
    lines = ['| config | metric | runs | mean | difference | pairs | 95 % interval | minutes |', '|' + 8 * '---|']
    baseline = rows[0].config if rows else None
    for config, metric, values, difference, missing in rows:
        took = f'{minutes[config]:.1f}' if config in minutes else ''
        if values is None:
            absent = f'missing in seed {", ".join(map(str, missing))}' if missing else 'no run'
            cells = ['', absent, '', '', '']
        else:
            cells = [str(values.number), _with_deviation(f'{values.mean:.4g}', values.deviation)]
            if difference is None:
                cells += ['baseline' if config == baseline else 'no pair', '', '']
            else:
                ends = difference.interval
                cells += [
                    _with_deviation(f'{difference.mean:+.3g}', difference.deviation),
                    str(difference.number),
                    f'{ends[0]:+.3g} to {ends[1]:+.3g}' if ends else '',
                ]
        lines.append('| ' + ' | '.join((config, metric, *cells, took)) + ' |')
    lines = [line.replace('|  |', '| |').replace('|  |', '| |') for line in lines]
    lines += ['', *(f'- {line}' for line in METHOD)]
    for config, of_config in notes.items():
        lines += ['', f'`{config}`', '', *(_list_item(note) for note in of_config)]
    return '\n'.join(lines) + '\n'


def _list_item(note: str) -> str:
    text = note.lstrip()
    return f'{note[: len(note) - len(text)]}- {text}'


def _with_deviation(mean: str, deviation: float | None) -> str:
    return mean if deviation is None else f'{mean} ± {deviation:.3g}'


def table_columns(row: Row, minutes: float | None) -> dict[str, str | int | float | None]:
    """A row as columns of a csv file, ``None`` for an empty one.

    Example:
        >>> row = summarize({'base': {0: {'AP': 0.5}}}, ['AP'])[0]
        >>> {name: value for name, value in table_columns(row, 2.0).items() if value is not None}
        {'config': 'base', 'metric': 'AP', 'runs': 1, 'mean': 0.5, 'minutes': 2.0}
    """
    values = row.values or Spread(math.nan, None, 0)
    difference = row.difference or PairedDifference(math.nan, None, 0, None)
    low, high = difference.interval or (None, None)
    return {
        'config': row.config,
        'metric': row.metric,
        'runs': values.number or None,
        'mean': values.mean if row.values else None,
        'deviation': values.deviation,
        'pairs': difference.number or None,
        'difference': difference.mean if row.difference else None,
        'difference_deviation': difference.deviation,
        'low_95': low,
        'high_95': high,
        'minutes': minutes,
    }
