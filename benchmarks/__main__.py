"""Runs every benchmark, each in its own process, and collects their rows.

::

    python -m benchmarks             # all; tables on the screen, json and images in work_dirs/benchmarks
    python -m benchmarks --quick     # tiny sizes, to see that everything runs
    python -m benchmarks.losses      # one of them

A benchmark that fails costs only its own rows; the exit status then is 1.
"""

import subprocess
import sys
from collections.abc import Sequence

from .command_line import benchmark_parser
from .machine import describe_machine
from .results import read_rows, write_report

NAMES = ('mean_shift_iteration', 'grouping', 'center_grouping', 'losses', 'training', 'latency', 'prediction')


def main(arguments: Sequence[str] | None = None) -> None:
    args = benchmark_parser(__doc__).parse_args(arguments)
    rows, failed = [], {}
    for name in NAMES:
        command = [sys.executable, '-m', f'benchmarks.{name}', '--out', str(args.out), *(['--quick'] * args.quick)]
        status = subprocess.run(command).returncode
        if status:
            failed[name] = status
        else:
            rows += read_rows(args.out / f'{name}.json')
    command = 'python -m benchmarks' + ' --quick' * args.quick
    write_report(rows, args.out / 'all.json', command, describe_machine(), failed=failed)
    print(f'\n{len(rows)} rows in {args.out / "all.json"}')
    if failed:
        raise SystemExit(f'failed, see above: {", ".join(failed)}')


if __name__ == '__main__':
    main()
