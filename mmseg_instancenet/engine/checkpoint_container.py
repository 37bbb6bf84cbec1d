"""Refuses checkpoint files by their container, before anything in them is unpickled."""

import os
import pickle
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

import torch

_CONVERT = 'If you trust where it comes from: torch.save({load}, NEW), and give NEW'


class ContainerError(pickle.UnpicklingError):
    """A file that is not read at all, for the kind of its container."""


def check_container(file: BinaryIO, name: str) -> None:
    """Raises :class:`ContainerError` for a tar, a program of TorchScript, or a zip whose parts have more bytes than the file.

    torch writes the parts of a checkpoint side by side and unpacked, so that all of them together are smaller than the file: that
    is the limit. A packed part may be a thousand times as large.

    Args:
        file: that can seek; it stays where it is.
        name: for messages.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as packed:
        ...     packed.writestr('archive/data/0', bytes(10**6))
        >>> start = file.seek(0)
        >>> check_container(file, 'a.pth')  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        mmseg_instancenet.engine.checkpoint_container.ContainerError: a.pth: expected parts of at most the ...
    """
    start = file.tell()
    try:
        file.seek(start)
        is_zip = file.read(4) == b'PK\x03\x04'  # by which torch knows it
        file.seek(start)
        if is_zip:
            _check_zip(file, name)
        else:
            _check_no_tar(file, name)
    finally:
        file.seek(start)


def _check_zip(file: BinaryIO, name: str) -> None:
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        _refuse_programs([PurePosixPath(part).name for part in archive.namelist()], name)
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > size:
        raise ContainerError(
            f'{name}: expected parts of at most the {size:,} bytes of the file, as torch writes them, got {unpacked:,} bytes '
            f'when they are unpacked; it was not loaded. {_CONVERT.format(load="torch.load(OLD)")}'
        )
    file.seek(0)
    # By torch's own reader too, which may find parts that zipfile does not.
    _refuse_programs(torch._C.PyTorchFileReader(file).get_all_records(), name)


def _refuse_programs(parts: Sequence[str], name: str) -> None:
    if 'constants.pkl' in parts:
        load = 'torch.jit.load(OLD).state_dict()'
        raise ContainerError(
            f'{name}: expected weights, got a program of TorchScript, which is code; it was not loaded. '
            f'{_CONVERT.format(load=load)}'
        )


def _check_no_tar(file: BinaryIO, name: str) -> None:
    try:
        with tarfile.open(fileobj=file, mode='r:') as archive:
            is_tar = archive.next() is not None  # zeros alone, the file of a machine that lost power, are none
    except tarfile.TarError:
        return
    if not is_tar:
        return
    raise ContainerError(
        f'{name}: expected a checkpoint in the form that torch has written since 2017, got a tar file, of which up to torch 2.5 '
        f'code is run; it was not loaded. {_CONVERT.format(load="torch.load(OLD, weights_only=False)")}'
    )
