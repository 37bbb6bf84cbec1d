"""Measures time and peak memory of a function."""

import itertools
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

MemoryKind = Literal['torch', 'resident']
"""Whose memory: 'torch' for what torch allocates (profiler on a CPU, the allocator's peak on a GPU), libraries below it not
counted; 'resident' for the rise of the process's high-water mark, for code outside torch."""

REPEATS = 5

_CLEAR_HIGH_WATER_MARK = '5'


class Candidate(NamedTuple):
    """One of the methods to compare.

    method: its name in the table.
    run: does the work; its results are compared before anything is timed.
    repeats: how often it is timed; fewer than five only where one takes very long.
    times: how often ``run`` would have to be done for the whole work: its time is multiplied.
    memory: whose memory is measured.
    note: a remark for readers of the table.
    """

    method: str
    run: Callable[[], Any]
    repeats: int = REPEATS
    times: int = 1
    memory: MemoryKind = 'torch'
    note: str = ''


class Measurement(NamedTuple):
    """Median time, and memory above the inputs (``None`` if the system does not report it)."""

    seconds: float
    peak_bytes: int | None


def warm_up(candidates: Sequence[Candidate], device: str) -> tuple[dict[str, Any], dict[str, int | None]]:
    """Runs each candidate once; returns its result and its peak memory in bytes, by method.

    Example:
        >>> outputs, peak_bytes = warm_up([Candidate('zeros', lambda: torch.zeros(1000))], 'cpu')
        >>> outputs['zeros'].shape, peak_bytes['zeros']
        (torch.Size([1000]), 4000)
    """
    outputs, peaks = {}, {}
    for candidate in candidates:
        peak = resident_peak if candidate.memory == 'resident' else torch_peak
        outputs[candidate.method], peaks[candidate.method] = peak(candidate.run, device)
    return outputs, peaks


def median_seconds(candidates: Sequence[Candidate], device: str) -> dict[str, float]:
    """Median time of each candidate, by method; they run in turn (A B A B), so that drift of the machine affects all
    alike.

    A warm-up (:func:`warm_up`) goes before.
    """
    times: dict[str, list[float]] = {candidate.method: [] for candidate in candidates}
    for turn in range(max(candidate.repeats for candidate in candidates)):
        for candidate in candidates:
            if turn < candidate.repeats:
                times[candidate.method].append(seconds_of(candidate.run, device))
    return {candidate.method: median(times[candidate.method]) * candidate.times for candidate in candidates}


def seconds_of(run: Callable[[], Any], device: str) -> float:
    """Wall time of one call, until the device has finished its work."""
    _synchronize(device)
    start = time.perf_counter()
    run()
    _synchronize(device)
    return time.perf_counter() - start


def torch_peak(run: Callable[[], Any], device: str) -> tuple[Any, int | None]:
    """The return value of ``run``, and torch's peak memory in bytes during it, above the memory before.

    Example:
        >>> _, peak_bytes = torch_peak(lambda: [torch.zeros(100).sum() for _ in range(9)], 'cpu')
        >>> peak_bytes < 2 * 400
        True
    """
    if device == 'cuda':
        _synchronize(device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        output = run()
        _synchronize(device)
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


def host_synchronizations(run: Callable[[], Any]) -> int:
    """Number of times that ``run`` makes the host wait for the GPU, counted by torch."""
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            run()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('synchronizing CUDA operation' in str(warning.message) for warning in caught)


def _status_bytes(name: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{name}:'))


def _synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()
