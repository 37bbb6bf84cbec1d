"""Files that are there whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f'{path.name}.{uuid.uuid4().hex}.part')
    try:
        # Without translation of line ends: csv files and records are the same on all systems.
        with open(beside, 'x', encoding='utf-8', newline='') as file:
            yield file
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
