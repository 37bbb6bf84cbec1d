"""Tries every kind of fault, each in its own process, and writes docs/reliability.md.

::

    PYTHONPATH=tests python -m faults                       # all but the long ones
    PYTHONPATH=tests python -m faults interrupted_training  # one module, or several
    PYTHONPATH=tests python -m faults --long                # the long ones

A module that was not run keeps its rows. The exit status is 1 where an outcome was not the expected one, or a module failed.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .rows import PAGE, Row, page, read_sections, run_section, write_sections

NAMES = ('interrupted_training', 'processes', 'numbers', 'broken_data', 'untrusted_files', 'long_runs')
"""The modules of `make faults`, in the order of the page."""
LONG = ('random_data', 'many_files', 'digits_in_two_processes', 'mutated_code')
"""Those of `make faults-long`, which follow."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('modules', nargs='*', metavar='MODULE', help=f'of {", ".join(NAMES + LONG)}')
    parser.add_argument('--long', action='store_true', help='the long ones')
    parser.add_argument('--rows', type=Path, help=argparse.SUPPRESS)  # how this program starts itself for one module
    args = parser.parse_args(arguments)
    if args.rows:
        rows = importlib.import_module(f'.{args.modules[0]}', __package__).rows()
        args.rows.write_text(json.dumps([asdict(row) for row in rows]))
        return
    unknown = set(args.modules) - set(NAMES + LONG)
    if unknown:
        parser.error(f'expected modules of {", ".join(NAMES + LONG)}, got {", ".join(sorted(unknown))}')
    failed = [name for name in args.modules or (LONG if args.long else NAMES) if not _try(name)]
    if failed:
        raise SystemExit(f'not as expected, see above: {", ".join(failed)}')


def _try(name: str) -> bool:
    """Runs one module and writes its section; returns whether all outcomes were the expected ones."""
    print(f'{name} ...', flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'rows.json')
        status = subprocess.run([sys.executable, '-m', __package__, name, '--rows', str(file)]).returncode
        if status:
            print(f'{name}: exit status {status}')
            return False
        rows = [Row(**row) for row in json.loads(file.read_text())]
    module = importlib.import_module(f'.{name}', __package__)
    section = run_section(name, module, f'PYTHONPATH=tests python -m faults {name}', time.monotonic() - start, rows)
    sections = {old.name: old for old in read_sections()} | {name: section}
    ordered = [sections[each] for each in NAMES + LONG if each in sections]
    write_sections(ordered)
    PAGE.write_text(page(ordered), 'utf-8')
    for row in rows:
        print(f'  {row.kept} of {row.tried}: {row.fault}: {row.outcome}')
    return all(row.kept == row.tried for row in rows)


if __name__ == '__main__':
    main()
