"""Rows of docs/reliability.md: kept in docs/reliability.json, and written as the page."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import processor

ROWS = Path(__file__).parents[2] / 'docs' / 'reliability.json'
PAGE = ROWS.with_suffix('.md')


@dataclass(frozen=True)
class Row:
    """What happened when one fault was tried.

    fault: what was done, as a user would say it.
    tried: how many times.
    kept: how many times the outcome was the expected one.
    outcome: the expected outcome, with the figures that were measured; where ``kept`` is smaller, what happened instead.
    """

    fault: str
    tried: int
    kept: int
    outcome: str

    def __post_init__(self) -> None:
        if not 0 <= self.kept <= self.tried or self.tried == 0:
            raise ValueError(
                f'{self.fault}: expected 0 <= kept <= tried and a try at least, got {self.kept} of {self.tried}'
            )


@dataclass(frozen=True)
class Section:
    """The rows of one module, with the command, the date and the machine of the run."""

    name: str
    title: str
    introduction: str
    command: str
    date: str
    machine: str
    seconds: float
    rows: Sequence[Row]


def run_section(name: str, module: Any, command: str, seconds: float, rows: Sequence[Row]) -> Section:
    """A section of today, on this machine.

    Args:
        module: its docstring is the title (first line) and the introduction (the paragraphs up to a line ``::`` or the end).
    """
    title, _, rest = module.__doc__.strip().partition('\n')
    introduction = rest.partition('\n::')[0].strip()
    machine = f'{processor()}, {os.cpu_count()} threads, torch {torch.__version__}'
    return Section(
        name, title.rstrip('.'), introduction, command, date.today().isoformat(), machine, round(seconds), rows
    )


def read_sections(path: Path = ROWS) -> list[Section]:
    """Sections in the order of the page; none where the file does not exist."""
    if not path.exists():
        return []
    return [
        Section(**{**section, 'rows': [Row(**row) for row in section['rows']]})
        for section in json.loads(path.read_text('utf-8'))
    ]


def write_sections(sections: Sequence[Section], path: Path = ROWS) -> None:
    path.write_text(json.dumps([asdict(section) for section in sections], indent=1, ensure_ascii=False) + '\n', 'utf-8')


def page(sections: Sequence[Section]) -> str:
    """The page in markdown."""
    lines = [
        '# Reliability',
        '',
        '<!-- Written by `make faults` and `make faults-long`, from the modules of tests/faults. -->',
        '',
        'What was tried against the program, how often, and what happened. The faults are real: processes are killed, disks are',
        'full, files are broken. `make faults` tries them again and writes this page.',
    ]
    for section in sections:
        lines += ['', f'## {section.title}', '']
        if section.introduction:
            lines += [section.introduction, '']
        lines += ['| fault | tried | as promised | outcome |', '|---|---|---|---|']
        lines += [f'| {row.fault} | {row.tried:,} | {row.kept:,} | {row.outcome} |' for row in section.rows]
        lines += ['', f'`{section.command}`, {section.date}, {section.seconds:.0f} s, {section.machine}.']
    return '\n'.join(lines) + '\n'
