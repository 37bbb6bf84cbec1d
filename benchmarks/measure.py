"""Compares methods by time and peak memory."""

import warnings
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch

from mmseg_instancenet.analysis.measure import MemoryKind, resident_peak, seconds_of, torch_peak

REPEATS = 5


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
