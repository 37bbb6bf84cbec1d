"""Reads the pickles that MMEngine's runner writes into its checkpoints, and no others.

``torch.load(file, weights_only=False, pickle_module=mmengine_pickle)`` unpickles with :class:`Unpickler`. MMEngine's checkpoints
hold the log beside the weights: a class of its own (``HistoryBuffer``) made of numpy values, and the class's methods by way of
``getattr``. ``torch.load(weights_only=True)`` refuses these. The unpickler here looks every name up in one table: plain
containers, tensors, numeric numpy values, and the history of the log, which is built anew from its numbers. Any other name is
an error, before anything of it is imported or called.
"""

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

UnpicklingError = pickle.UnpicklingError  # torch.load looks for it here


class _Function:
    """Wrapper of a function that a pickle may call; a pickle cannot set its attributes."""

    def __init__(self, function: Callable) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise UnpicklingError(f'a checkpoint may call {self._function.__name__}, not change it')


class _History(HistoryBuffer):
    """The history of one value of the log; becomes MMEngine's ``HistoryBuffer`` once its state is set."""

    def __setstate__(self, state: dict) -> None:
        self.__class__ = HistoryBuffer
        HistoryBuffer.__init__(self, state['_log_history'], state['_count_history'], state['max_length'])


def _bytes(text: str, encoding: str) -> bytes:
    """Encodes text to bytes; replaces ``_codecs.encode``, with which protocol 2 of pickle stores bytes."""
    if encoding != 'latin1':
        raise UnpicklingError(f"expected bytes written as 'latin1', got {encoding!r}")
    return text.encode(encoding)


def _numeric_dtype(name: str, align: bool, copy: bool) -> np.dtype:
    if not re.fullmatch('[biuf][1248]', name):
        raise UnpicklingError(f'expected a numeric numpy dtype, got {name!r}')
    return np.dtype(name, align=False, copy=True)  # a copy, since the pickle sets its byte order next


def _numeric_scalar(dtype: np.dtype, data: bytes) -> np.generic:
    return np.frombuffer(data, dtype, count=1)[0]


def _empty_array(owner: object, shape: tuple, kind: bytes) -> np.ndarray:
    """Creates the empty array that pickle then fills."""
    if owner is not _NDARRAY:
        raise UnpicklingError(f'expected a plain numpy array, got {owner!r}')
    return np.empty(0, np.int8)


def _method_of_history(owner: type, name: str) -> None:
    """Accepts the names of a log history's methods (mean, min, ..); looks up no attribute, since ``HistoryBuffer`` has
    them."""
    if owner is not _History or name not in ('min', 'max', 'current', 'mean'):
        raise UnpicklingError(f'getattr({owner!r}, {name!r}) is not part of a checkpoint of MMEngine')


_NDARRAY = object()  # a placeholder: a pickle could call the class itself
_ALLOWED = {
    'collections.OrderedDict': OrderedDict,
    '_codecs.encode': _Function(_bytes),
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    'torch._utils._rebuild_tensor_v2': _Function(torch._utils._rebuild_tensor_v2),
    'torch._utils._rebuild_parameter': _Function(torch._utils._rebuild_parameter),
    'mmengine.logging.history_buffer.HistoryBuffer': _History,
    'builtins.getattr': _Function(_method_of_history),
    'numpy.ndarray': _NDARRAY,
    'numpy.dtype': _Function(_numeric_dtype),
    'numpy._core.multiarray.scalar': _Function(_numeric_scalar),
    'numpy._core.multiarray._reconstruct': _Function(_empty_array),
}
# Other names of the same functions, in files of pickle protocol 2 or numpy 1.
_RENAMED = {'__builtin__': 'builtins', 'numpy.core.multiarray': 'numpy._core.multiarray'}


class Unpickler(pickle.Unpickler):
    """``pickle.Unpickler`` limited to the names in MMEngine's checkpoints.

    Raises:
        pickle.UnpicklingError: for any other name, and for a file that uses an allowed one otherwise than MMEngine does.
    """

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f'{_RENAMED.get(module_name, module_name)}.{global_name}'
        if name not in _ALLOWED:
            raise UnpicklingError(f'{module_name}.{global_name} is not part of a checkpoint of MMEngine')
        return _ALLOWED[name]

    def load(self) -> Any:
        try:
            return super().load()
        except (UnpicklingError, EOFError, OSError):
            raise
        except Exception as error:  # any error of an allowed function called with arguments that MMEngine never writes
            raise UnpicklingError(f'not a checkpoint of MMEngine: {type(error).__name__}: {error}') from error


def load(file: Any, **arguments: Any) -> Any:
    """``pickle.load`` with :class:`Unpickler`; torch calls it for files in its format before 1.6."""
    return Unpickler(file, **arguments).load()
