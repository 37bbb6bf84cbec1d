"""Command-line arguments of the benchmarks."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .machine import describe_machine
from .results import Row, format_table, plot_cost, write_report

FOLDER = Path('work_dirs/benchmarks')


def benchmark_parser(description: str) -> argparse.ArgumentParser:
    """Builds a parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='tiny sizes, to see that everything runs')
    parser.add_argument('--out', type=Path, default=FOLDER, help=f'folder for json and png; {FOLDER} unless given')
    return parser


def report(name: str, rows: Sequence[Row], folder: Path) -> None:
    """Prints the table of a benchmark and writes its json and its image into a folder."""
    machine = describe_machine()
    print(f'\n{name}: {machine["cpu"]}, {machine["threads"]} threads, torch {machine["torch"]}, GPU: {machine["gpu"]}')
    print(format_table(rows), flush=True)
    write_report(
        rows, folder / f'{name}.json', f'python -m benchmarks.{name} {" ".join(sys.argv[1:])}'.strip(), machine
    )
    plot_cost(rows, folder / f'{name}.png')
