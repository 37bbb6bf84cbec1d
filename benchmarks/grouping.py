"""Benchmark of grouping: ours against dense mean shift, scikit-learn and a seeded hill climb.

::

    python -m benchmarks.grouping
    python -m benchmarks.grouping --embeddings work_dirs/benchmarks/embeddings/digits.pt

Data (a), drawn: 30 objects and the background, see :func:`benchmarks.data.mixed_groups`. Data (b), of trained models: see
``python -m benchmarks.write_embeddings``.

Data (c), drawn: groups with noise alone, see :func:`benchmarks.data.noisy_groups`, in the settings of "unseen object clustering":
ours beside the hill climb from 100 seeds, which stands for the code of that paper, whose licence is non-commercial.

Ours has to agree with the exact result, 20 full loops and then components within the bandwidth, or, above 65,536 pixels, with
the true groups of the pixels that are not mixed. The others are shown with their adjusted Rand index, whatever it is.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from mmseg_instancenet.models.groupers import group_by_mean_shift

from . import embedding_files
from .agreement import adjusted_rand_index, expect_index
from .alternatives import dense_grouping, dense_iteration, exact_grouping, hill_climb
from .command_line import benchmark_parser, report
from .comparison import Agreement, compare
from .data import MixedGroups, mixed_groups, noisy_groups
from .library_grouping import flat_bandwidth, hdbscan_labels, mean_shift_labels
from .machine import devices
from .measure import REPEATS, Candidate, host_synchronizations
from .results import OURS, Row, not_measured
from .trained_grouping import trained_rows

NAME = 'grouping'
CONCENTRATION = 100.0
NUM_GROUPS = 31
DENSE_LOOPS = 10
HILL_CLIMB = '100 seeds, 10 loops; more objects would be merged'

_LARGEST = {
    'exact': 65536,
    'dense': 16384,
    'one dense loop': 65536,
    'HDBSCAN': 65536,
    'MeanShift, bins': 65536,
    'MeanShift, bins, narrow': 16384,
    'MeanShift, no bins': 4096,
}
"""Pixels up to which each is run: beyond, it takes too long."""

_LARGEST_REPEATED = {
    'dense': 4096,
    'HDBSCAN': 16384,
    'MeanShift, bins': 16384,
    'MeanShift, bins, narrow': 4096,
    'MeanShift, no bins': 1024,
}
"""Pixels up to which each is timed as often as ours; beyond, once."""


def measure_rows(
    cases: Sequence[tuple[int, int]], files: Sequence[Path], seeded: Sequence[tuple[int, int, int]] = ()
) -> list[Row]:
    """Rows for data (a) of (pixels, D) and data (c) of (pixels, D, groups) on every device, and for files of trained
    embeddings (b)."""
    rows = []
    for device in devices():
        for size, dims in cases:
            rows += _one_case(size, dims, device)
        for size, dims, groups in seeded:
            rows += _one_seeded_case(size, dims, groups, device)
    if 'cuda' not in devices():
        rows.append(not_measured(NAME, 'all', None, OURS, 'cuda', 'torch sees no GPU'))
    for path in files:
        rows += trained_rows(NAME, path.stem, embedding_files.load_embeddings(path))
    if not files:
        reason = f'no embeddings in {embedding_files.FOLDER}; write them with python -m benchmarks.write_embeddings'
        rows.append(not_measured(NAME, 'trained models', None, OURS, 'cpu', reason))
    return rows


def _one_case(size: int, dims: int, device: str) -> list[Row]:
    data = mixed_groups(size, dims, NUM_GROUPS, seed=0)
    data = MixedGroups(*(tensor.to(device) for tensor in data))
    candidates = [
        Candidate(OURS, lambda: group_by_mean_shift(data.x_ND, CONCENTRATION)),
        *_torch_candidates(data.x_ND),
        *(_library_candidates(data.x_ND) if device == 'cpu' else []),
    ]

    def agree(outputs: dict[str, Tensor | None]) -> dict[str, Agreement]:
        return _agreement({method: label_N for method, label_N in outputs.items() if label_N is not None}, data)

    setting = f'D={dims}, {NUM_GROUPS - 1} objects'
    rows = compare(NAME, setting, size, device, candidates, agree)
    if device == 'cuda':
        note = f'{host_synchronizations(candidates[0].run)} host synchronisations'
        rows[0] = dataclasses.replace(rows[0], note=note)
    expected = ['dense', 'hill climb']
    if device == 'cpu':
        expected += ['HDBSCAN', 'MeanShift, bins', 'MeanShift, bins, narrow', 'MeanShift, no bins']
    missing = [method for method in expected if method not in [row.method for row in rows]]
    return rows + [
        not_measured(NAME, setting, size, method, device, 'takes too long at this size') for method in missing
    ]


def _one_seeded_case(size: int, dims: int, groups: int, device: str) -> list[Row]:
    data = MixedGroups(*(tensor.to(device) for tensor in noisy_groups(size, dims, groups, seed=0)))
    candidates = [
        Candidate(OURS, partial(group_by_mean_shift, data.x_ND, CONCENTRATION)),
        Candidate('hill climb', partial(hill_climb, data.x_ND, CONCENTRATION), note=HILL_CLIMB),
    ]

    def agree(outputs: dict[str, Tensor]) -> dict[str, Agreement]:
        index = {method: adjusted_rand_index(data.group_N, label_N) for method, label_N in outputs.items()}
        expect_index(index[OURS], f'{size} pixels in {groups} groups, index to truth')
        return {method: {'index to truth': value} for method, value in index.items()}

    return compare(NAME, f'noise alone, D={dims}, {groups} objects', size, device, candidates, agree)


def _torch_candidates(x_ND: Tensor) -> list[Candidate]:
    candidates = []
    if len(x_ND) <= _LARGEST['dense']:
        run = partial(dense_grouping, x_ND, CONCENTRATION, DENSE_LOOPS)
        note = f'{DENSE_LOOPS} loops, then components'
        candidates.append(Candidate('dense', run, _repeats('dense', x_ND), note=note))
    elif len(x_ND) <= _LARGEST['one dense loop']:

        def one_loop() -> None:
            dense_iteration(x_ND, CONCENTRATION)

        note = f'one loop in blocks of rows, its time times {DENSE_LOOPS}, without the labels'
        candidates.append(Candidate('dense', one_loop, 1, times=DENSE_LOOPS, note=note))
    return [*candidates, Candidate('hill climb', partial(hill_climb, x_ND, CONCENTRATION), note=HILL_CLIMB)]


def _library_candidates(x_ND: Tensor) -> list[Candidate]:
    bandwidth, narrow = flat_bandwidth(CONCENTRATION, x_ND.shape[1]), CONCENTRATION**-0.5
    note = f'bandwidth {bandwidth:.2f}, one thread'
    runs = {
        'HDBSCAN': (partial(hdbscan_labels, x_ND), 'noise is one group'),
        'MeanShift, bins': (partial(mean_shift_labels, x_ND, bandwidth, True), note),
        'MeanShift, bins, narrow': (
            partial(mean_shift_labels, x_ND, narrow, True),
            f'bandwidth {narrow:.2f}, that of the kernel, one thread',
        ),
        'MeanShift, no bins': (partial(mean_shift_labels, x_ND, bandwidth, False), note),
    }
    return [
        Candidate(method, run, _repeats(method, x_ND), memory='resident', note=note)
        for method, (run, note) in runs.items()
        if len(x_ND) <= _LARGEST[method]
    ]


def _repeats(method: str, x_ND: Tensor) -> int:
    return REPEATS if len(x_ND) <= _LARGEST_REPEATED[method] else 1


def _agreement(outputs: dict[str, Tensor], data: MixedGroups) -> dict[str, Agreement]:
    if len(data.x_ND) <= _LARGEST['exact']:
        name, reference_N = 'index to exact', exact_grouping(data.x_ND, CONCENTRATION)
        compared = slice(None)
    else:
        name, reference_N = 'index to truth, unmixed', data.group_N
        compared = ~data.is_mixed_N
    metrics = {
        method: {
            name: adjusted_rand_index(reference_N[compared], label_N[compared]),
            'index to truth': adjusted_rand_index(data.group_N, label_N),
        }
        for method, label_N in outputs.items()
    }
    expect_index(metrics[OURS][name], f'{len(data.x_ND)} pixels, {name}')
    return metrics


def main(arguments: Sequence[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        '--embeddings',
        nargs='+',
        type=Path,
        help=f'files of benchmarks.write_embeddings; those in {embedding_files.FOLDER} unless given',
    )
    args = parser.parse_args(arguments)
    files = sorted(embedding_files.FOLDER.glob('*.pt')) if args.embeddings is None else args.embeddings
    cases = [(256, 16), (512, 16)] if args.quick else [(4096, 16), (16384, 16), (65536, 16), (262144, 16), (16384, 4)]
    seeded = [(512, 16, 5)] if args.quick else [(16384, 64, 20), (65536, 64, 20), (65536, 16, 60), (65536, 16, 150)]
    report(NAME, measure_rows(cases, files, seeded), args.out)


if __name__ == '__main__':
    main()
