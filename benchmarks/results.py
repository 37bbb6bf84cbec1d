"""Rows of measurements: as a table in the terminal, as json, and as a plot of cost against size."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from mmseg_instancenet.analysis.measure import MemoryKind

OURS = 'ours'
"""The method that all others are compared with."""


@dataclass(frozen=True)
class Row:
    """The result of one method on one case.

    benchmark: the module that measured it.
    setting: what is the same along a curve, such as 'D=16, forward'.
    size: what grows along a curve: pixels N, or instances; ``None`` where nothing does.
    method: :data:`OURS` or the name of an alternative.
    device: 'cpu' or 'cuda'.
    seconds: median; ``None`` if not measured, and ``note`` has the reason.
    peak_bytes: memory above the inputs; ``None`` if not measured.
    memory: whose memory (see :data:`~.measure.MemoryKind`).
    repeats: number of times that the median is of.
    agreement: how well the result agrees, by the name of the figure.
    note: a remark for readers of the table.
    """

    benchmark: str
    setting: str
    size: int | None
    method: str
    device: str
    seconds: float | None = None
    peak_bytes: int | None = None
    memory: MemoryKind = 'torch'
    repeats: int = 0
    agreement: dict[str, float] = field(default_factory=dict)
    note: str = ''

    def case(self) -> tuple:
        """The part of a row by which comparable rows are found."""
        return self.benchmark, self.setting, self.size, self.device


def not_measured(benchmark: str, setting: str, size: int | None, method: str, device: str, reason: str) -> Row:
    """A row without a measurement, with the reason."""
    return Row(benchmark, setting, size, method, device, note=f'not measured: {reason}')


def ratios_to_ours(rows: Sequence[Row]) -> list[float | None]:
    """The time of each row relative to our method on the same case; ``None`` if one was not measured.

    Example:
        >>> rows = [Row('b', '', 1, OURS, 'cpu', seconds=2.0), Row('b', '', 1, 'other', 'cpu', seconds=5.0)]
        >>> ratios_to_ours(rows)
        [1.0, 2.5]
    """
    ours = {row.case(): row.seconds for row in rows if row.method == OURS}
    return [
        row.seconds / ours[row.case()] if row.seconds is not None and ours.get(row.case()) else None for row in rows
    ]


def format_table(rows: Sequence[Row]) -> str:
    """Formats rows as a table of fixed width in markdown.

    Example:
        >>> print(format_table([Row('b', 'D=4', 8, OURS, 'cpu', 0.25, 2**20, repeats=5)]))
        | setting | size | device | method | time   | memory        | x ours | agreement | note |
        |---------|------|--------|--------|--------|---------------|--------|-----------|------|
        | D=4     | 8    | cpu    | ours   | 250 ms | 1.0 MiB torch | 1.0    |           |      |
    """
    titles = ('setting', 'size', 'device', 'method', 'time', 'memory', 'x ours', 'agreement', 'note')
    cells = [titles, *(_cells(row, ratio) for row, ratio in zip(rows, ratios_to_ours(rows), strict=True))]
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    lines = [
        '| ' + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + ' |' for line in cells
    ]
    lines.insert(1, '|' + '|'.join('-' * (width + 2) for width in widths) + '|')
    return '\n'.join(lines)


def _cells(row: Row, ratio: float | None) -> tuple[str, ...]:
    notes = [row.note] if row.note else []
    if row.seconds is not None and row.repeats < 5:
        notes.append(f'timed {row.repeats} times' if row.repeats > 1 else 'timed once')
    return (
        row.setting,
        '' if row.size is None else str(row.size),
        row.device,
        row.method,
        '' if row.seconds is None else format_seconds(row.seconds),
        '' if row.peak_bytes is None else f'{row.peak_bytes / 2**20:.1f} MiB {row.memory}',
        '' if ratio is None else f'{ratio:.3g}' if ratio >= 10 else f'{ratio:.1f}' if ratio >= 1 else f'{ratio:.2f}',
        ', '.join(f'{name} {value:.4g}' for name, value in row.agreement.items()),
        '; '.join(notes),
    )


def format_seconds(seconds: float) -> str:
    """Formats seconds with three digits: '1.23 s' or '45.6 ms'."""
    return f'{seconds:.3g} s' if seconds >= 1 else f'{seconds * 1000:.3g} ms'


def write_report(rows: Sequence[Row], path: Path, command: str, machine: dict[str, Any], **more: Any) -> None:
    """Writes machine, date, command and rows as json, and creates the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        'command': command,
        'date': date.today().isoformat(),
        'machine': machine,
        **more,
        'rows': [dict(asdict(row), times_ours=ratio) for row, ratio in zip(rows, ratios_to_ours(rows), strict=True)],
    }
    path.write_text(json.dumps(report, indent=1) + '\n')


def read_rows(path: Path) -> list[Row]:
    """Reads the rows from a json of :func:`write_report`."""
    rows = json.loads(path.read_text())['rows']
    return [Row(**{name: value for name, value in row.items() if name != 'times_ours'}) for row in rows]


def plot_cost(rows: Sequence[Row], path: Path) -> bool:
    """Plots seconds and memory against size on logarithmic axes, with a row of panels for each setting and device.

    Returns:
        False, and draws nothing, if no method was measured at two sizes or more.
    """
    curves: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        if row.size is not None and row.seconds is not None:
            curves.setdefault((row.setting, row.device), {}).setdefault(row.method, []).append(row)
    curves = {name: by for name, by in curves.items() if any(len({r.size for r in of}) > 1 for of in by.values())}
    if not curves:
        return False
    with matplotlib.rc_context({'font.size': 8}):
        figure = Figure(figsize=(10, 3 * len(curves)), layout='constrained')
        panels = figure.subplots(len(curves), 2, squeeze=False)
        for (left, right), ((setting, device), by_method) in zip(panels, curves.items(), strict=True):
            for method, of_method in sorted(by_method.items(), key=lambda item: item[0] != OURS):
                points = sorted(of_method, key=lambda row: row.size)
                width = 2.5 if method == OURS else 1
                left.plot([r.size for r in points], [r.seconds for r in points], 'o-', label=method, linewidth=width)
                # Resident memory is a lower bound: memory that the process already holds free is not counted.
                known = [r for r in points if r.peak_bytes and r.memory == 'torch']
                right.plot([r.size for r in known], [r.peak_bytes / 2**20 for r in known], 'o-', linewidth=width)
            for panel, label in ((left, 'seconds'), (right, 'MiB above the inputs')):
                panel.set(xlabel='size', ylabel=label, title=f'{setting}, {device}')
                if any(
                    len(line.get_xdata()) for line in panel.lines
                ):  # matplotlib refuses a logarithmic axis without data
                    panel.set(xscale='log', yscale='log')
                panel.grid(True, which='both', alpha=0.3)
            right.legend(*left.get_legend_handles_labels(), loc='center left', bbox_to_anchor=(1, 0.5))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    return True
