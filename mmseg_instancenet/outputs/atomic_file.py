"""Files that are there whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_UNFINISHED = '.part'


@contextmanager
def atomic_file(path: str | Path) -> Iterator[TextIO]:
    """Opens a text file (UTF-8) that takes its name when the block ends: a program that is stopped within it leaves no such file.

    A file that has the name already is replaced then. The text is written beside it, under a name of its own: several processes
    may write one file, and the last one stays. Missing folders are made.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), 'a', 'b.txt')
        >>> with atomic_file(path) as file:
        ...     print('one line', file=file)
        ...     path.exists()
        False
        >>> path.read_text()
        'one line\\n'
    """
    # Without translation of line ends: csv files and records are the same on all systems.
    with _beside(path) as beside, open(beside, 'x', encoding='utf-8', newline='') as file:
        yield file


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file as :func:`atomic_file` does, and returns when the disk has it: a computer that loses its power afterwards
    still has the file.

    Raises:
        OSError: if the disk is full, for example; a file of this name then stays as it was.
    """
    with _beside(path) as beside, open(beside, 'xb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if os.name == 'posix':  # the name is in the folder, which other systems cannot open
        folder = os.open(Path(path).parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def unfinished_files(folder: str | Path, pattern: str) -> list[Path]:
    """The files that a program left beside their names when it was killed.

    Args:
        folder: of the files.
        pattern: of the names that they were to take, as in ``Path.glob``.
    """
    return sorted(Path(folder).glob(f'{pattern}.*{_UNFINISHED}'))


@contextmanager
def _beside(path: str | Path) -> Iterator[Path]:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f'{path.name}.{uuid.uuid4().hex}{_UNFINISHED}')
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
