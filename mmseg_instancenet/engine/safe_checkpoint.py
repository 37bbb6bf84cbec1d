"""Loading of checkpoints without running code from them, on any version of torch.

MMEngine calls ``torch.load`` without ``weights_only``: torch before 2.6 then runs any code in the file, torch from 2.6 on
refuses the checkpoints that MMEngine itself writes, since the log in them holds a class of its own and numpy values.
:func:`register_safe_loaders` puts loaders for files and addresses in the place of MMEngine's; they read weights and MMEngine's
log (:mod:`mmengine_pickle`), nothing else. Our tools and ``apis.init_model`` call it; importing the package does not.
:class:`PlainLogHook` writes checkpoints that need no such help.
"""

import io
import os
import os.path as osp
import pickle
from typing import Any, BinaryIO
from urllib.parse import urlparse

import mmengine.runner.checkpoint as mmengine_checkpoint
import torch
from mmengine.dist import barrier
from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader

from . import mmengine_pickle
from .checkpoint_container import ContainerError, check_container

_DAMAGED = ('invalid load key', 'pickle data was truncated')
"""Beginnings of the messages of pickle for bytes that are none."""


def load_weights_only(file: Any, map_location: str | None = None, name: str | None = None) -> Any:
    """Loads a checkpoint without running code from it.

    First as ``torch.load(weights_only=True)`` does; a file that this refuses is read as a checkpoint of MMEngine. Three kinds of
    files do not come to ``torch.load`` at all: tar files, as torch wrote them before 0.1.10 (up to torch 2.5 ``weights_only`` can
    be got around, CVE-2025-32434), programs of TorchScript, which are code, and files whose parts are packed or
    overlap, so that they would take more memory than the file has bytes; torch writes none of them as a checkpoint.

    Args:
        file: path, or a file object that can seek.
        map_location: as in ``torch.load``.
        name: of the file, for messages; ``file`` unless given.

    Raises:
        pickle.UnpicklingError: if the file is damaged, or holds anything but tensors, plain values and MMEngine's log.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> torch.save({'meta': {'epoch': 5}, 'state_dict': {'weight': torch.ones(2)}}, file)
        >>> start = file.seek(0)
        >>> load_weights_only(file, map_location='cpu')['meta']['epoch']
        5
    """
    name = str(file) if name is None else name
    if not hasattr(file, 'seek'):
        with open(file, 'rb') as opened:
            return load_weights_only(opened, map_location, name)
    start = file.tell()
    try:
        check_container(file, name)
        try:
            return torch.load(file, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError:
            file.seek(start)
        return torch.load(file, map_location=map_location, weights_only=False, pickle_module=mmengine_pickle)
    except ContainerError:
        raise
    except pickle.UnpicklingError as error:
        if str(error).startswith(_DAMAGED):
            raise _damaged(file, name, error) from error
        raise pickle.UnpicklingError(
            f'{name} holds more than weights; it was not loaded, since loading would run code from it. If you trust where '
            "it comes from, save its weights only: torch.save(torch.load(OLD, weights_only=False)['state_dict'], NEW). "
            f'The cause: {error}'
        ) from error
    except Exception as error:  # damaged files give many kinds: RuntimeError, EOFError, KeyError, ..
        memory = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
        if memory or (isinstance(error, RuntimeError) and 'map_location' in str(error)):
            raise  # the file is whole; of a GPU that is not there, torch says what to do
        raise _damaged(file, name, error) from error


def _damaged(file: BinaryIO, name: str, error: Exception) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(
        f'{name}: expected a whole checkpoint, got {file.seek(0, os.SEEK_END)} bytes that cannot be read: copy it again, or take '
        f'an earlier one. The cause: {type(error).__name__}: {error}'
    )


def _load_from_local(filename: str, map_location: str | None) -> Any:
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        raise FileNotFoundError(f'checkpoint not found: {filename}')
    return load_weights_only(filename, map_location)


def _load_from_http(filename: str, map_location: str | None = None) -> Any:
    """Downloads a checkpoint into torch's cache, once on each machine: the first process downloads, the others wait."""
    folder = osp.join(torch.hub.get_dir(), 'checkpoints')
    file = osp.join(folder, osp.basename(urlparse(filename).path))
    first = int(os.environ.get('LOCAL_RANK', 0)) == 0
    for turn in (first, not first):  # in the second round the others find the file, unless their machine has no rank 0
        if turn and not osp.isfile(file):
            os.makedirs(folder, exist_ok=True)
            # Under another name until it is complete, so that no process reads a partial file.
            torch.hub.download_url_to_file(filename, file, progress=first)
        barrier()
    return load_weights_only(file, map_location)


def _load_from_torchvision(filename: str, map_location: str | None = None) -> Any:
    return _load_from_http(mmengine_checkpoint.get_torchvision_models()[filename.split('://')[1]], map_location)


def _load_from_ceph(filename: str, map_location: str | None = None, backend: str = 'petrel') -> Any:
    content = get_file_backend(filename, backend_args={'backend': backend}).get(filename)
    return load_weights_only(io.BytesIO(content), map_location, filename)


def _load_from_pavi(filename: str, map_location: str | None = None) -> Any:
    raise ValueError(
        f'{filename}: expected a file or an address, got a name of pavi: download the file, and give its path'
    )


def _load_from_mmcls(filename: str, map_location: str | None = None) -> Any:
    address = mmengine_checkpoint.get_mmcls_models()[filename.removeprefix('mmcls://')]
    return mmengine_checkpoint._process_mmcls_checkpoint(_load_from_http(address, map_location))


def _load_from_openmmlab(filename: str, map_location: str | None = None) -> Any:
    name = filename.split('://')[1]
    name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    return _load_from_http(mmengine_checkpoint.get_external_models()[name], map_location)


def register_safe_loaders() -> None:
    """Replaces all of MMEngine's checkpoint loaders by those of this module."""
    for prefixes, loader in (
        ('', _load_from_local),
        (('http://', 'https://'), _load_from_http),
        (('modelzoo://', 'torchvision://'), _load_from_torchvision),
        (('open-mmlab://', 'openmmlab://'), _load_from_openmmlab),
        ((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), _load_from_ceph),
        ('pavi://', _load_from_pavi),
        ('mmcls://', _load_from_mmcls),
    ):
        CheckpointLoader.register_scheme(prefixes, loader, force=True)
