"""Checkpoints are data, not programs: they are loaded with ``weights_only=True`` on every supported torch.

MMEngine 0.10 calls ``torch.load`` without it: torch before 2.6 then runs whatever the file says, torch from 2.6 on refuses
the checkpoints that MMEngine itself writes, since the log in them holds a class of its own and numpy values. Importing
this module allows just those and registers MMEngine's loaders for files and addresses anew.
"""

import os.path as osp
import pickle
from typing import Any, Optional

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader


def _statistic_of_history(owner: Any, name: str) -> Any:
    """Stands in for ``getattr``, by which pickle names the methods of ``HistoryBuffer`` (its mean, its maximum, ..)."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not part of a checkpoint of MMEngine')
    return getattr(owner, name)


_statistic_of_history.__module__, _statistic_of_history.__name__ = 'builtins', 'getattr'


def _allow_logs() -> None:
    """MMEngine's checkpoints hold the history of the log beside the weights: a class of its own, made of numpy values."""
    dtypes = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    functions = [np.array(0).__reduce__()[0], np.float64(0).__reduce__()[0]]
    torch.serialization.add_safe_globals(
        [HistoryBuffer, _statistic_of_history, np.ndarray, np.dtype, *functions, *dtypes]
    )
    if tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 6):
        # numpy 2 renamed numpy.core to numpy._core: a checkpoint may have been written under either.
        for function in functions:
            module = 'numpy.core.multiarray' if '_core' in function.__module__ else 'numpy._core.multiarray'
            torch.serialization.add_safe_globals([(function, f'{module}.{function.__name__}')])


def load_weights_only(file: Any, map_location: Optional[str] = None) -> Any:
    """``torch.load`` of a file with ``weights_only=True``.

    Args:
        file: path or file object.
        map_location: as in ``torch.load``.

    Raises:
        pickle.UnpicklingError: if the file holds anything but tensors, plain values and MMEngine's log.
    """
    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(
            f'{file} holds more than weights; it was not loaded, since loading would run code from it. If you trust where '
            "it comes from, keep its weights alone: torch.save(torch.load(OLD, weights_only=False)['state_dict'], NEW). "
            f'The cause: {error}'
        ) from error


def _load_from_local(filename: str, map_location: Optional[str]) -> Any:
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        raise FileNotFoundError(f'checkpoint not found: {filename}')
    return load_weights_only(filename, map_location)


def _load_from_http(filename: str, map_location: Optional[str] = None) -> Any:
    """Downloads once a machine, into torch's cache."""
    rank, world_size = get_dist_info()
    checkpoint = None
    for turn in (True, False):  # the main process first, then those that find the file in the cache
        if turn == (rank == 0):
            checkpoint = torch.hub.load_state_dict_from_url(
                filename, map_location=map_location, progress=rank == 0, weights_only=True
            )
        if world_size > 1 and turn:
            torch.distributed.barrier()
    return checkpoint


def _load_from_torchvision(filename: str, map_location: Optional[str] = None) -> Any:
    return _load_from_http(mmengine_checkpoint.get_torchvision_models()[filename.split('://')[1]], map_location)


def _load_from_openmmlab(filename: str, map_location: Optional[str] = None) -> Any:
    name = filename.split('://')[1]
    name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    return _load_from_http(mmengine_checkpoint.get_external_models()[name], map_location)


def register_safe_loaders() -> None:
    """Puts the loaders of this module in the place of MMEngine's."""
    _allow_logs()
    for prefixes, loader in (
        ('', _load_from_local),
        (('http://', 'https://'), _load_from_http),
        (('modelzoo://', 'torchvision://'), _load_from_torchvision),
        (('open-mmlab://', 'openmmlab://'), _load_from_openmmlab),
    ):
        CheckpointLoader.register_scheme(prefixes, loader, force=True)
