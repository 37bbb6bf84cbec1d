"""Checks the coverage of lines and that of branches, each against its floor; coverage's own ``fail_under`` is for both together.

::

    python -m coverage json -o work_dirs/coverage.json
    python tests/coverage_floors.py work_dirs/coverage.json

The floors are those of ``[tool.coverage_floors]`` in pyproject.toml, in percent.
"""

import json
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest needs it there

PYPROJECT = Path(__file__).parents[1] / 'pyproject.toml'


def main() -> None:
    totals = json.loads(Path(sys.argv[1]).read_text())['totals']
    floors = tomllib.loads(PYPROJECT.read_text())['tool']['coverage_floors']
    reached = percentages(totals)
    for name, floor in floors.items():
        print(f'{name}: {reached[name]:.2f} %, at least {floor} %')
    low = [name for name, floor in floors.items() if reached[name] < floor]
    if low:
        raise SystemExit(f'below the floor: {", ".join(low)}. Write tests for what coverage lists as missing')


def percentages(totals: dict) -> dict[str, float]:
    """Of the lines and of the branches that tests run, from the totals of coverage's json."""
    return {
        'lines': 100 * totals['covered_lines'] / totals['num_statements'],
        'branches': 100 * totals['covered_branches'] / totals['num_branches'],
    }


if __name__ == '__main__':
    main()
