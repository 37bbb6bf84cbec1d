"""FLOPs of networks and of groupings by MMEngine's counter, with handles for operators that it leaves out."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.analysis.jit_analysis import JitModelAnalysis
from mmengine.analysis.jit_handles import Handle, get_shape
from torch import nn


class FlopCount(NamedTuple):
    """FLOPs of a module.

    flops: all that were counted.
    by_operator: of each operator.
    values_not_counted: how many values each operator has computed that the counter leaves out: additions, activations, softmax,
        sorting. Each costs a few FLOPs a value.
    """

    flops: int
    by_operator: dict[str, int]
    values_not_counted: dict[str, int]


def attention_flops(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    r"""FLOPs of ``scaled_dot_product_attention``, :math:`Q P (E + E')` for each head and image: Q queries and P keys of E
    values, :math:`E'` values of the result. The softmax is not counted, as MMEngine does not count it elsewhere."""
    query, key, value = (get_shape(x) for x in inputs[:3])
    return prod(query) * key[-2] + prod(query[:-1]) * key[-2] * value[-1]


def batched_product_flops(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """FLOPs of ``baddbmm``, attention with a mask: those of the product; MMEngine counts no addition."""
    first, second = (get_shape(x) for x in inputs[1:3])
    return prod(first) * second[-1]


def distance_flops(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """FLOPs of ``cdist``: one for each of the D values of each distance."""
    return prod(get_shape(outputs[0])) * get_shape(inputs[0])[-1]


FLOP_HANDLES: dict[str, Handle] = {
    'aten::scaled_dot_product_attention': attention_flops,
    'aten::baddbmm': batched_product_flops,
    'aten::cdist': distance_flops,
}
"""Operators that MMEngine's counter leaves out and that cost as much as a layer: for ``FlopAnalyzer.set_op_handle``, and
``supported_ops`` of ``flop_count``."""


def count_flops(module: nn.Module, *inputs: torch.Tensor) -> FlopCount:
    """Counts the FLOPs of one call of a module by MMEngine's rules: a multiplication with its addition is one FLOP.

    MMEngine's ``FlopAnalyzer`` traces the call and counts convolutions, matrix products, norms, adaptive pooling and bilinear
    interpolation; :data:`FLOP_HANDLES` adds attention and distances. ``get_model_complexity_info`` takes no handles. It counts
    our segmentors as well, but not the masked attention of Mask2Former, a thousandth of the FLOPs of its config on digits.

    A segmentor of this package that is called with a batch of images runs the whole network, embeddings included, and no
    grouping. How much a grouping costs depends on the embeddings, so its count holds for these inputs alone.

    Time: two calls. Peak memory: that of a call without gradients.

    Args:
        module: runs on the device of the inputs. A call takes tensors and returns tensors. Compiled operators of mmcv, which
            are used on a GPU, are not counted: count on the CPU.
        *inputs: of a call.

    Raises:
        RuntimeError: of torch, if the module cannot be traced.

    Example:
        >>> count_flops(nn.Conv2d(3, 4, kernel_size=5, padding=2), torch.zeros(1, 3, 8, 8)).flops == 3 * 4 * 25 * 64
        True
    """
    analyzer = FlopAnalyzer(module, inputs).set_op_handle(**FLOP_HANDLES)
    others = JitModelAnalysis(module, inputs)
    for analysis in (analyzer, others):
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')
    with torch.no_grad():
        by_operator = {name: round(flops) for name, flops in analyzer.by_operator().items()}
        others.set_op_handle(**dict.fromkeys(analyzer.unsupported_ops(), _values))
        values = dict(others.by_operator())
    return FlopCount(sum(by_operator.values()), by_operator, values)


def _values(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Number of values of the first output of an operator; 0 if it is no tensor."""
    return prod(get_shape(outputs[0]) or [0])
