"""Benchmark of one iteration of blurring mean shift, as in training, against ``softmax(delta X X^T) X``.

::

    python -m benchmarks.mean_shift_iteration

Both compute all pairs: 4 N^2 D operations forward and 12 N^2 D with the backward pass (the exponentials not counted).
"""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg_instancenet.models.groupers import group_by_mean_shift
from mmseg_instancenet.models.mean_shift import mean_shift
from mmseg_instancenet.models.mean_shift.modes import merge_modes

from .agreement import adjusted_rand_index, expect_index
from .alternatives import dense_iteration
from .command_line import benchmark_parser, report
from .comparison import Agreement, compare, largest_difference
from .data import mixed_groups
from .machine import devices, matrix_product_gflops
from .measure import Candidate
from .results import OURS, Row, not_measured

NAME = 'mean_shift_iteration'
CONCENTRATION = 100.0
GROUPING = 'ours, grouping'

_GPU_SIZE, _GPU_DIMS, _GPU_LOOPS = 129 * 129, 64, 5


def measure_rows(sizes: Sequence[int], dims: Sequence[int]) -> list[Row]:
    """Rows of the forward pass, and of forward and backward pass, for every size and number of dimensions on every
    device."""
    rows = []
    for device in devices():
        peak_gflops = matrix_product_gflops(device)
        for dim in dims:
            for backward in (False, True):
                for size in sizes:
                    rows += _one_case(size, dim, backward, device, peak_gflops)
    if 'cuda' in devices():
        return rows + _five_loops()
    return [*rows, not_measured(NAME, 'all', None, OURS, 'cuda', 'torch sees no GPU')]


def _one_case(size: int, dims: int, backward: bool, device: str, peak_gflops: float) -> list[Row]:
    x_ND = mixed_groups(size, dims, 31, seed=0).x_ND.to(device)
    slope_ND = torch.randn(x_ND.shape, generator=torch.Generator().manual_seed(1)).to(device)

    def our_iteration(x_ND: Tensor) -> Tensor:
        return next(islice(mean_shift(x_ND[None], CONCENTRATION), 1, None))[0]

    def dense(x_ND: Tensor) -> Tensor:
        # As ours, it takes vectors of any length: that is part of the gradient.
        return dense_iteration(F.normalize(x_ND, dim=1), CONCENTRATION)

    def task(iterate: Callable[[Tensor], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: _iterate(iterate, x_ND, slope_ND if backward else None)

    def agree(outputs: dict[str, tuple[Tensor, ...]]) -> dict[str, Agreement]:
        return {'dense': {'largest difference': largest_difference(outputs[OURS], outputs['dense'])}}

    setting = f'D={dims}, forward' + (' and backward' if backward else '')
    candidates = [Candidate(OURS, task(our_iteration)), Candidate('dense', task(dense))]
    operations = (12 if backward else 4) * size**2 * dims
    rows = []
    for row in compare(NAME, setting, size, device, candidates, agree):
        gflops = operations / row.seconds / 1e9
        note = f'{gflops:.0f} GFLOP/s, {100 * gflops / peak_gflops:.0f} % of the matrix product'
        rows.append(dataclasses.replace(row, note=note))
    return rows


def _iterate(iterate: Callable[[Tensor], Tensor], x_ND: Tensor, slope_ND: Tensor | None) -> tuple[Tensor, ...]:
    """The shifted embeddings and, if a slope is given, the gradient of their product with it."""
    if slope_ND is None:
        with torch.no_grad():
            return (iterate(x_ND),)
    x_ND = x_ND.clone().requires_grad_()
    shifted_ND = iterate(x_ND)
    (gradient_ND,) = torch.autograd.grad(shifted_ND, x_ND, slope_ND)
    return shifted_ND.detach(), gradient_ND


def _five_loops() -> list[Row]:
    """Rows of five iterations for one image on a data-centre GPU, also in TF32, with the difference of the groups."""
    x_ND = mixed_groups(_GPU_SIZE, _GPU_DIMS, 31, seed=0).x_ND.cuda()

    def shift(precision: str) -> Tensor:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            with torch.no_grad():
                return next(islice(mean_shift(x_ND[None], CONCENTRATION), _GPU_LOOPS, None))[0]
        finally:
            torch.set_float32_matmul_precision(before)

    def dense() -> Tensor:
        shifted_ND = x_ND
        for _ in range(_GPU_LOOPS):
            shifted_ND = dense_iteration(shifted_ND, CONCENTRATION)
        return shifted_ND

    def group() -> Tensor:
        return group_by_mean_shift(x_ND, CONCENTRATION, max_loops=_GPU_LOOPS, tolerance=0)

    def agree(outputs: dict[str, Tensor]) -> dict[str, Agreement]:
        labels = {
            method: output if method == GROUPING else merge_modes(output, CONCENTRATION**-0.5)
            for method, output in outputs.items()
        }
        index = {method: adjusted_rand_index(labels['dense'], label_N) for method, label_N in labels.items()}
        for method in (OURS, GROUPING):
            expect_index(index[method], f'five loops in float32 against dense, {method}')
        return {method: {'index to dense': value} for method, value in index.items()}

    candidates = [
        Candidate(OURS, lambda: shift('highest')),
        Candidate('ours, TF32', lambda: shift('high')),
        Candidate(GROUPING, group, note='clusters are merged before the first loop; with the labels'),
        Candidate('dense', dense),
    ]
    return compare(NAME, f'D={_GPU_DIMS}, {_GPU_LOOPS} loops', _GPU_SIZE, 'cuda', candidates, agree)


def main(arguments: Sequence[str] | None = None) -> None:
    args = benchmark_parser(__doc__).parse_args(arguments)
    sizes, dims = ([256, 512], [16]) if args.quick else ([1024, 2048, 4096, 8192, 16384], [16, 64])
    report(NAME, measure_rows(sizes, dims), args.out)


if __name__ == '__main__':
    main()
