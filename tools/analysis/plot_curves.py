"""Plots the curves in the log of a test: recall against the number of proposals, mIoU near boundaries.

::

    python tools/test.py CONFIG CHECKPOINT --work-dir work_dirs/test
    python tools/analysis/plot_curves.py work_dirs/test/20261201_120000/20261201_120000.json
    python tools/analysis/plot_curves.py LOG --keys proposal/curve --log-x --out work_dirs/images

A curve of the log is a table of equally long columns, as ``TrimapIoUMetric`` and ``ProposalRecallMetric`` return under the
key ``curve``: the first column is the x axis, the others are drawn against it. Each table becomes one file, trimap_curve.png
for the key trimap/curve.
"""

import argparse
import json
from pathlib import Path

from mmseg_instancenet.visualization import plot_curves


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('log', type=Path, help='json file of a test: WORK_DIR/TIME/TIME.json')
    parser.add_argument('--keys', nargs='+', help='which tables to draw, for example proposal/curve; all unless given')
    parser.add_argument('--log-x', action='store_true', help='logarithmic x axis')
    parser.add_argument('--out', type=Path, help='folder for the image files; that of the log unless given')
    return parser.parse_args()


def read_tables(log: Path) -> dict[str, dict[str, list[float]]]:
    """Reads the tables, with columns of equal length, from the json file of a test."""
    try:
        metrics = json.loads(log.read_text())
    except OSError as error:
        raise SystemExit(f'log not found: {log}') from error
    except ValueError as error:
        raise SystemExit(
            f'{log}: expected the json file of one test, WORK_DIR/TIME/TIME.json, got {error}; the log of a training '
            'has no curves: run tools/test.py'
        ) from error
    tables = {key: value for key, value in metrics.items() if isinstance(value, dict) and len(value) > 1}
    if not tables:
        raise SystemExit(
            f'{log} has no curve, only {", ".join(metrics) or "nothing"}: add TrimapIoUMetric or ProposalRecallMetric to '
            'test_evaluator'
        )
    return tables


def main() -> None:
    args = parse_args()
    tables = read_tables(args.log)
    unknown = [key for key in args.keys or [] if key not in tables]
    if unknown:
        raise SystemExit(f'--keys: expected some of {", ".join(tables)}, got {", ".join(unknown)}')
    folder = args.out or args.log.parent
    for key in args.keys or tables:
        (x_label, xs), *columns = tables[key].items()
        y_label = columns[0][0] if len(columns) == 1 else key.split('/')[0]
        path = folder / f'{key.replace("/", "_")}.png'
        plot_curves({name: (xs, ys) for name, ys in columns}, x_label, y_label, str(path), log_x=args.log_x)
        print(path)


if __name__ == '__main__':
    main()
