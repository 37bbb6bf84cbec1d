"""How often a function would make the host wait for a GPU, counted on a CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_READS = {'_local_scalar_dense', 'nonzero', 'masked_select', 'equal', '_unique2', 'unique_consecutive', 'bincount'}
"""Operators whose result, or its size, depends on values of a tensor: the host has to read them."""


class _Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name == 'index' and any(index is not None and index.dtype == torch.bool for index in args[1])
        repeated = name == 'repeat_interleave' and (kwargs or {}).get('output_size') is None
        self.count += name in _READS or masked or repeated
        return func(*args, **(kwargs or {}))


def host_reads(function):
    """Number of operators in ``function`` that wait for values of a tensor."""
    with _Counter() as counter:
        function()
    return counter.count
