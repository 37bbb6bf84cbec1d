"""Measures time and peak memory of one call."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch.profiler import ProfilerActivity, profile

MemoryKind = Literal['torch', 'resident']
"""Whose memory: 'torch' for what torch allocates (profiler on a CPU, the allocator's peak on a GPU), libraries below it not
counted; 'resident' for the rise of the process's high-water mark, for code outside torch."""

_CLEAR_HIGH_WATER_MARK = '5'


def seconds_of(run: Callable[[], Any], device: str) -> float:
    """Wall time of one call, until the device has finished its work."""
    _wait_for(device)
    start = time.perf_counter()
    run()
    _wait_for(device)
    return time.perf_counter() - start


def torch_peak(run: Callable[[], Any], device: str) -> tuple[Any, int | None]:
    """The return value of ``run``, and torch's peak memory in bytes during it, above the memory before.

    Example:
        >>> _, peak_bytes = torch_peak(lambda: [torch.zeros(100).sum() for _ in range(9)], 'cpu')
        >>> peak_bytes < 2 * 400
        True
    """
    if device == 'cuda':
        _wait_for(device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        output = run()
        _wait_for(device)
        return output, torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = run()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    totals = itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return output, max(totals, default=0)


def resident_peak(run: Callable[[], Any], device: str = 'cpu') -> tuple[Any, int | None]:
    """The return value of ``run``, and the peak rise of the process's resident memory in bytes (Linux; else ``None``).

    Memory that the process already holds free is not counted, so that it is a lower bound. Processes that ``run``
    starts are not counted.
    """
    try:
        Path('/proc/self/clear_refs').write_text(_CLEAR_HIGH_WATER_MARK)
        before = _status_bytes('VmRSS')
    except OSError:
        return run(), None
    output = run()
    return output, max(0, _status_bytes('VmHWM') - before)


def _status_bytes(name: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{name}:'))


def _wait_for(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()
