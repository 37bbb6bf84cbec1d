"""Comparison of candidates: first of their results, then of their times."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .measure import Candidate, median_seconds, warm_up
from .results import Row, format_seconds

Agreement = dict[str, float]
"""How well a result agrees, by the name of the figure."""


class DisagreementError(RuntimeError):
    """Error for two methods that should agree and gave different results: comparing their times would be meaningless."""


def compare(
    benchmark: str,
    setting: str,
    size: int,
    device: str,
    candidates: Sequence[Candidate],
    agree: Callable[[dict[str, Any]], dict[str, Agreement]],
) -> list[Row]:
    """Measures candidates on one case and prints each row at once, since a long run may be stopped later.

    Args:
        benchmark, setting, size, device: of the rows.
        candidates: in the order of the rows.
        agree: from what the candidates returned, by method, to metrics by method; raises
            :class:`DisagreementError` if they do not agree.
    """
    outputs, peaks = warm_up(candidates, device)
    agreement = agree(outputs)
    outputs.clear()
    seconds = median_seconds(candidates, device)
    times = ', '.join(f'{method} {format_seconds(value)}' for method, value in seconds.items())
    print(f'{benchmark}, {setting}, {size}, {device}: {times}', flush=True)
    return [
        Row(
            benchmark,
            setting,
            size,
            candidate.method,
            device,
            seconds[candidate.method],
            peaks[candidate.method],
            candidate.memory,
            candidate.repeats,
            agreement.get(candidate.method, {}),
            candidate.note,
        )
        for candidate in candidates
    ]


def largest_difference(results: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-4) -> float:
    """The largest difference of two sets of tensors, each relative to the largest expected value.

    Raises:
        DisagreementError: if it exceeds ``tolerance``.

    Example:
        >>> round(largest_difference([torch.tensor([1.0, 2.0])], [torch.tensor([1.0, 2.0001])]), 6)
        5e-05
    """
    difference = max(
        float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=torch.finfo(torch.float).tiny))
        for a, b in zip(results, expected, strict=True)
    )
    if not difference <= tolerance:
        raise DisagreementError(
            f'expected results that differ by at most {tolerance:g} of the largest value, got {difference:g}; mend the one '
            'that is wrong before timing them'
        )
    return difference
