"""How large a running process is: its memory, its open files and the processes below it (Linux)."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_READINGS = 9
"""One reading may fall on an image that is being read."""
_PAUSE_S = 0.1


@dataclass(frozen=True)
class ProcessSize:
    """Resident memory in bytes, the number of open files, and the number of processes below it."""

    resident: int
    files: int
    processes: int


def process_size(pid: int) -> ProcessSize:
    """Reads the size of a process; FileNotFoundError where it has ended."""
    folder = Path('/proc', str(pid))
    status = dict(line.split(':', 1) for line in (folder / 'status').read_text().splitlines())
    if 'VmRSS' not in status:
        raise FileNotFoundError(f'process {pid} has ended')
    return ProcessSize(int(status['VmRSS'].split()[0]) * 1024, len(os.listdir(folder / 'fd')), len(descendants(pid)))


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    children: dict[int, list[int]] = {}
    for folder in Path('/proc').iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            children.setdefault(parent, []).append(int(folder.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def sizes_at(process: subprocess.Popen, counter: Callable[[], int], counts: Sequence[int]) -> list[ProcessSize]:
    """The sizes of a process when it has done so many pieces of its work; then waits for its end.

    Args:
        process: one that runs.
        counter: gives the number of pieces that are done.
        counts: ascending; the process goes on for a second at least after the last.

    Raises:
        RuntimeError: if the process ends before, or with another exit status than 0.
    """
    sizes = []
    for count in counts:
        while counter() < count:
            if process.poll() is not None:
                raise RuntimeError(
                    f'expected {count} pieces of work, got {counter()} and exit status {process.returncode}'
                )
            time.sleep(_PAUSE_S)
        readings = []
        for _ in range(_READINGS):
            readings.append(process_size(process.pid))
            time.sleep(_PAUSE_S)
        sizes.append(
            ProcessSize(
                *(
                    int(statistics.median(getattr(reading, name) for reading in readings))
                    for name in ('resident', 'files', 'processes')
                )
            )
        )
    if process.wait():
        raise RuntimeError(f'expected exit status 0, got {process.returncode}')
    return sizes
