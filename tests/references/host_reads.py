"""Counts the operations whose result the host reads."""

from torch.utils._python_dispatch import TorchDispatchMode

_READS = {
    'aten::_local_scalar_dense',  # item(), int(), float(), bool()
    'aten::equal',
    'aten::nonzero',  # also of an index by a mask
    'aten::_unique2',
    'aten::unique_dim',
    'aten::unique_consecutive',
    'aten::masked_select',
    'aten::repeat_interleave',
}


class HostReads(TorchDispatchMode):
    """Counts operations after which a GPU would have made the host wait: those that read a value or the size of a result."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        indices = args[1] if name == 'aten::index' else ()
        is_mask = any(
            index is not None and not index.dtype.is_floating_point and index.element_size() == 1 for index in indices
        )
        self.count += name in _READS or is_mask
        return function(*args, **(kwargs or {}))
