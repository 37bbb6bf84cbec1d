"""How often a function would make the host wait for a GPU, counted on a CPU."""

from collections.abc import Callable

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_READS = {
    '_local_scalar_dense',  # item(), int(), float(), bool()
    'equal',
    'nonzero',
    '_unique2',
    'unique_dim',
    'unique_consecutive',
    'masked_select',
    'bincount',
}
"""Operators whose result, or its size, depends on values of a tensor: the host has to read them."""


class _Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masked = name == 'index' and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        repeated = name == 'repeat_interleave' and (kwargs or {}).get('output_size') is None
        self.count += name in _READS or masked or repeated
        return function(*args, **(kwargs or {}))


def host_reads(function: Callable[[], object]) -> int:
    """Number of operators in ``function`` that wait for values of a tensor."""
    counter = _Counter()

    class _CountTolist(TorchFunctionMode):  # on a CPU it calls no operator
        def __torch_function__(self, function, types, args=(), kwargs=None):
            counter.count += function is torch.Tensor.tolist
            return function(*args, **(kwargs or {}))

    with _CountTolist(), counter:
        function()
    return counter.count
