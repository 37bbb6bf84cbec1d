"""Checkpoint files that are there whole or not at all, and the latest of them."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.fileio import register_backend
from mmengine.fileio.backends import LocalBackend

from ..outputs.atomic_file import write_bytes
from .safe_checkpoint import load_weights_only


@register_backend('atomic_local')
class AtomicLocalBackend(LocalBackend):
    """MMEngine's files on local disks, written beside their names and renamed when they are whole (:func:`write_bytes`)."""

    def __init__(self) -> None:
        self._postponed: list[str] | None = None

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_bytes(filepath, obj)

    def remove(self, filepath: str | Path) -> None:
        if self._postponed is None:
            super().remove(filepath)
        else:
            self._postponed.append(str(filepath))

    @contextmanager
    def removing_last(self) -> Iterator[list[str]]:
        """Removes files only when the block has ended without an error; gives the list of those that wait for it."""
        if self._postponed is not None:  # within another block, which removes them
            yield self._postponed
            return
        postponed: list[str] = []
        self._postponed = postponed
        try:
            yield postponed
        finally:
            self._postponed = None
        for path in postponed:
            Path(path).unlink(missing_ok=True)


def damage(path: str | Path) -> str | None:
    """The reason why a checkpoint is not whole; ``None`` for a whole one.

    torch writes checkpoints as zip files: the list of contents, with sizes and checksums (CRC-32), comes last, so a file that was
    cut off has none. All contents are read and compared.

    Example:
        >>> import os, tempfile, torch
        >>> file = os.path.join(tempfile.mkdtemp(), 'epoch_1.pth')
        >>> torch.save({'weight': torch.ones(2)}, file)
        >>> damage(file)
        >>> with open(file, 'r+b') as opened:
        ...     size = opened.truncate(100)
        >>> damage(file)
        'File is not a zip file'
    """
    try:
        with zipfile.ZipFile(path) as file:
            broken = file.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        return str(error)
    return f'the checksum of {broken} is another one' if broken else None


def latest_whole_checkpoint(folder: str | Path) -> tuple[str | None, dict[str, str]]:
    """The checkpoint in a folder with the most iterations that is whole.

    Best checkpoints (``best_*.pth``), which have no optimizer, do not count. Of several with the same number of iterations it is
    the one that was written last. Where the folder has none, those of the folder count that MMEngine's ``last_checkpoint``
    names (``out_dir`` of its hook).

    Args:
        folder: work dir of a training.

    Returns:
        The file, ``None`` if there is none; and the files that had to be left out, with the reasons.
    """
    found, left_out = [], {}
    for path in _checkpoints(Path(folder)):
        try:
            meta = load_weights_only(str(path), map_location='meta').get('meta', {})
        except Exception as error:  # torch raises errors of many types for damaged files
            left_out[str(path)] = damage(path) or str(error)
        else:
            found.append((meta.get('iter', 0), path.stat().st_mtime_ns, str(path)))
    for _, _, file in sorted(found, reverse=True):
        if (reason := damage(file)) is None:
            return file, left_out
        left_out[file] = reason
    return None, left_out


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.glob('*.pth')) if path.is_file() and not path.name.startswith('best_')]
    named = folder / 'last_checkpoint'
    if found or not named.is_file():
        return found
    # Not before: the folder may be a copy, of which this file names the original.
    elsewhere = Path(named.read_text(errors='replace').strip()).parent
    return [] if elsewhere.resolve() in (folder.resolve(), Path.cwd()) else _checkpoints(elsewhere)
