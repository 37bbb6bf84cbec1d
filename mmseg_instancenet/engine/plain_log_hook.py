"""Hook that stores the log history in checkpoints without classes of MMEngine."""

from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class PlainLogHook(Hook):
    """Stores the log's history in checkpoints as tensors and numbers, and restores it when a training resumes.

    MMEngine pickles the history as objects of its class ``HistoryBuffer``, and ``torch.load``, which from torch 2.6 on reads
    weights only, refuses the file. With this hook ``torch.load(file, weights_only=True)`` of every torch reads a checkpoint.
    A numpy array in the runtime information of the message hub becomes a tensor, a numpy scalar a number of Python.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['message_hub'] = to_plain(checkpoint['message_hub'])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for name, history in scalars.items():
            if isinstance(history, dict):  # MMEngine's own format needs no conversion
                # To resume, MMEngine loads a checkpoint onto the GPU if there is one.
                values, counts = (history[key].cpu().numpy() for key in ('log_history', 'count_history'))
                scalars[name] = HistoryBuffer(values, counts, history['max_length'])


def to_plain(value: Any) -> Any:
    """Converts numpy scalars to numbers, numpy arrays to tensors and ``HistoryBuffer`` to dicts of them, also inside
    containers.

    Args:
        value: anything; dicts, lists and tuples are copied, and their items are converted in turn.

    Example:
        >>> to_plain({'best': np.float64(0.5)})
        {'best': 0.5}
    """
    if isinstance(value, HistoryBuffer):
        log_history, count_history = value.data
        return {
            'log_history': torch.from_numpy(log_history.copy()),
            'count_history': torch.from_numpy(count_history.copy()),
            'max_length': value.max_length,
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(to_plain, value))
    return value
