"""Sums over pairs of pixels: of the same instance from its moments, of different instances block by block."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Rows and columns of a block. On a CPU a block of floats stays in the cache (1 MiB); a GPU needs few large kernels (64 MiB).
_CPU_BLOCK = 512
_GPU_BLOCK = 4096


def instance_weights(count_K: Tensor, size_K: Tensor, image_K: Tensor, group_K: Tensor, variant: str) -> Tensor:
    """Weight of the pixels of each instance, divided by the normaliser of the image; the weight of a pair is the
    product of two.

    count_K: pixels of each instance that enter. size_K: all its pixels.
    """
    if variant == 'paper':
        size_K, term_K = size_K.double(), count_K
    else:
        # The weights of an instance sum to 1, those of its pairs with its group to the instances of that group.
        size_K, present_K = count_K.clamp(min=1).double(), (count_K > 0).long()
        _, index_K = torch.unique_consecutive(group_K, return_inverse=True)
        term_K = present_K * torch.zeros_like(count_K).index_add_(0, index_K, present_K)[index_K]
    # term_K sums to the normaliser over the instances of an image.
    _, place_K = torch.unique_consecutive(image_K, return_inverse=True)
    normalizer_K = torch.zeros_like(count_K).index_add_(0, place_K, term_K)[place_K]
    return 1 / (size_K * normalizer_K.clamp(min=1).double().sqrt())


def sizes_by_group(count_K: Tensor, group_K: Tensor) -> list[list[int]]:
    """The sizes of the instances, one list for each group; equal numbers of ``group_K`` must be adjacent."""
    _, instances_G = torch.unique_consecutive(group_K, return_counts=True)
    return [sizes.tolist() for sizes in count_K.cpu().split(instances_G.tolist())]


def same_instance_sums(
    unit_PD: Tensor, has_direction_P: Tensor, instance_P: Tensor, count_K: Tensor, squared: bool
) -> Tensor:
    r"""Sum of 1 - s, or of 1 - s^2 if ``squared``, over the pairs of pixels of each instance, from its moments: (K,).

    With e = |x_i - x_j|^2 of unit vectors, s = 1 - e / 4. Around an instance's mean, y_i = x_i - mu and a_i = |y_i|^2 of
    its n vectors give

    .. math::
        \sum_{ij} e = 2 n \sum_i a_i, \quad
        \sum_{ij} e^2 = 2 n \sum_i a_i^2 + 2 (\sum_i a_i)^2 + 4 \|\sum_i y_i y_i^T\|^2

    without the difference of large numbers that n^2 - |sum x|^2 is for a tight instance.
    """
    count = len(count_K)
    directed_P = has_direction_P.to(unit_PD)

    def sums(value_P: Tensor) -> Tensor:
        return value_P.new_zeros(count, *value_P.shape[1:]).index_add(0, instance_P, value_P)

    n_K = sums(directed_P)
    mu_KD = sums(unit_PD) / n_K.clamp(min=1)[:, None]
    y_PD = (unit_PD - mu_KD.index_select(0, instance_P)) * directed_P[:, None]
    a_P = y_PD.square().sum(1)
    a_K = sums(a_P)
    # Pairs with a vector without direction: s = 1/2.
    undirected_K = count_K.to(unit_PD).square() - n_K.square()
    if not squared:
        return n_K * a_K / 2 + undirected_K / 2
    # A single pixel lies on its mean.
    second_K = torch.stack(
        [
            (y_ID.T @ y_ID).square().sum() if len(y_ID) > 1 else a_P.new_zeros(())
            for y_ID in y_PD.split(count_K.tolist())
        ]
    )
    return n_K * a_K - (n_K * sums(a_P.square()) + a_K.square() + 2 * second_K) / 8 + undirected_K * 0.75


def hinged_pair_sum(
    unit_PD: Tensor, weight_P: Tensor, group_sizes: Sequence[Sequence[int]], *, margin: float, squared: bool = False
) -> Tensor:
    r"""Sum of the hinge over the pairs of pixels of different instances of one group, in both orders:

    .. math:: \sum_{i,j} w_i w_j [s_{ij} - \alpha]_+^p, \quad s_{ij} = (1 + x_i \cdot x_j) / 2

    with p = 2 if ``squared``, else 1. Exact, value and gradient, without a P x P matrix: blocks of 512 x 512 pairs (4096 x
    4096 on a GPU) are visited once, above the diagonal alone, and the gradient is made with the value. Peak memory
    above the inputs: one block (1 MiB of float32 on a CPU, 64 MiB on a GPU) and 6 P (D + 1) values. The time grows
    with the square of P.

    Args:
        unit_PD: (P, D) floating point, rows of length 1 (or 0: similarity 1/2 with everything), sorted by group and
            by instance within it.
        weight_P: (P,) the weights w; no gradient flows to them.
        group_sizes: for each group (the instances of one image, or of one class in it) the number of pixels of each of
            its instances, in the order of the rows.
        margin: alpha, a similarity in [0, 1].
        squared: square the hinge.

    Returns:
        The sum, a scalar; differentiable once with respect to ``unit_PD``.

    Example:
        >>> unit = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # instances of 1 and 2 pixels; s = 1 and 1/2
        >>> hinged_pair_sum(unit, torch.ones(3), [[1, 2]], margin=0.25)  # 2 (0.75 + 0.25)
        tensor(2.)
    """
    count = sum(itertools.chain.from_iterable(group_sizes))
    if unit_PD.dim() != 2 or weight_P.shape != unit_PD.shape[:1] or count != len(unit_PD):
        raise ValueError(
            f'expected vectors (P, D), weights (P,) and instances of P pixels in all, got {tuple(unit_PD.shape)}, '
            f'{tuple(weight_P.shape)} and {count} pixels'
        )
    return _HingedPairSum.apply(unit_PD, weight_P, group_sizes, margin, squared)


class _HingedPairSum(torch.autograd.Function):
    """Autograd function of :func:`hinged_pair_sum`: computes the sum and its gradient block by block.

    [s - alpha]+ = [cos - t]+ / 2 with t = 2 alpha - 1, and cos - t is the product of a = (x_i, -t) and b = (x_j, 1). With
    G_ij = 1{a_i b_j > 0} (p = 1) or [a_i b_j]+ (p = 2), both the sum, w_i w_j G_ij a_i b_j / 2^p, and its gradient
    2 p w_i w_j G_ij x_j / 2^p follow from g_i = sum_j G_ij w_j b_j: three matrix products a block.
    """

    @staticmethod
    def forward(
        ctx: Any, unit_PD: Tensor, weight_P: Tensor, group_sizes: Sequence[Sequence[int]], margin: float, squared: bool
    ) -> Tensor:
        power = 2 if squared else 1
        weight_P1 = weight_P[:, None]
        one_P1 = torch.ones_like(weight_P1)
        a_PE = torch.cat([unit_PD, (1 - 2 * margin) * one_P1], dim=1)
        b_PE = torch.cat([unit_PD, one_P1], dim=1)
        weighted_PE = b_PE * weight_P1
        g_PE = torch.zeros_like(b_PE)

        side = _CPU_BLOCK if unit_PD.device.type == 'cpu' else _GPU_BLOCK
        # One buffer for all blocks: an allocation of this size costs the CPU more than the product it holds.
        buffer = unit_PD.new_empty(min(side, len(unit_PD)) ** 2)
        for chunk in _row_chunks(group_sizes, side):
            rows = slice(chunk.start, chunk.stop)
            if chunk.instances:
                hinge_RR = _hinge_block(a_PE[rows], b_PE[rows], buffer, squared)
                instance_R = torch.arange(len(chunk.instances), device=unit_PD.device).repeat_interleave(
                    torch.tensor(chunk.instances, device=unit_PD.device)
                )
                hinge_RR.masked_fill_(instance_R[:, None] == instance_R[None, :], 0)
                g_PE[rows].addmm_(hinge_RR, weighted_PE[rows])
            for start in range(chunk.stop_of_instance, chunk.stop_of_group, side):
                columns = slice(start, min(start + side, chunk.stop_of_group))
                hinge_RC = _hinge_block(a_PE[rows], b_PE[columns], buffer, squared)
                g_PE[rows].addmm_(hinge_RC, weighted_PE[columns])
                g_PE[columns].addmm_(hinge_RC.T, weighted_PE[rows])
        # Rounding may leave a sum of zeros a little below.
        total = ((a_PE * g_PE).sum(1) @ weight_P / 2**power).clamp(min=0)
        # 2 p / 2^p, the factor of the gradient, is 1 for both p.
        ctx.save_for_backward(g_PE[:, :-1] * weight_P1)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        (gradient_PD,) = ctx.saved_tensors
        return gradient_PD * gradient, None, None, None, None


def _hinge_block(a_RE: Tensor, b_CE: Tensor, buffer: Tensor, squared: bool) -> Tensor:
    """Hinge values G of :class:`_HingedPairSum` for one block, (R, C), written into ``buffer``."""
    block_RC = buffer[: len(a_RE) * len(b_CE)].view(len(a_RE), len(b_CE))
    torch.mm(a_RE, b_CE.T, out=block_RC)
    return block_RC.clamp_(min=0) if squared else block_RC.gt_(0)


class _RowChunk(NamedTuple):
    """Rows ``start`` to ``stop`` of the matrix of pairs, combined with the columns from ``stop_of_instance`` to
    ``stop_of_group``.

    ``instances``: the sizes of the instances that the rows hold whole, if several; their pairs lie in the square on the
    diagonal.
    """

    start: int
    stop: int
    stop_of_instance: int
    stop_of_group: int
    instances: list[int]


def _row_chunks(group_sizes: Sequence[Sequence[int]], side: int) -> Iterator[_RowChunk]:
    """Splits rows into chunks of at most ``side``: a part of one instance, or several whole instances, never parts of
    two.

    So no block off the diagonal holds a pair of one instance.
    """
    start = 0
    for sizes in group_sizes:
        stop_of_group = start + sum(sizes)
        held: list[int] = []
        num_rows = 0
        for size in [*sizes, None]:
            if held and (size is None or num_rows + size > side):
                stop = start + num_rows
                if len(held) > 1:
                    yield _RowChunk(start, stop, stop, stop_of_group, held)
                else:
                    for row in range(start, stop, side):
                        yield _RowChunk(row, min(row + side, stop), stop, stop_of_group, [])
                start, held, num_rows = stop, [], 0
            if size:
                held.append(size)
                num_rows += size
