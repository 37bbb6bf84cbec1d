"""Profile of a training: what an iteration waits for.

::

    python -m benchmarks.training_profile configs/instancenet_digits.py
    python -m benchmarks.training_profile configs/instancenet_unet_dsb2018.py --amp --operators 20
    OMP_NUM_THREADS=1 python -m benchmarks.training_profile configs/instancenet_digits.py

The training of the config runs with its data, hooks and log, in one process, and stops after some iterations; torch's profiler
measures the last of them. With workers, ``data`` is the time in which the training waits for them. The backward pass of the
losses is told from that of the network by the numbers that autograd gives to operators, on a CPU; on a GPU it is a part of the
network's.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerActivity, profile, record_function

from mmseg_instancenet.apis.command_line import add_common_arguments, load_config
from mmseg_instancenet.engine import use_mixed_precision

from .machine import describe_machine

WARM_UP = 5
"""Iterations before the first that is measured."""

_RANGE = 'training_profile: '
_NETWORK, _LOSSES, _BACKWARD = 'network, forward', 'losses, forward', 'backward'


class TrainingProfile(NamedTuple):
    """Where the time of a training iteration goes.

    seconds_of: for each part the seconds of an iteration, under torch's profiler. ``data`` loads a batch, ``preprocessing``
        normalises and pads it, ``optimiser`` clips gradients and changes weights, ``other`` is the rest.
    iteration: median seconds of an iteration without the profiler.
    events: torch's, of all iterations under the profiler.
    """

    seconds_of: dict[str, float]
    iteration: float
    events: EventList


def profile_training(config: Config, iterations: int) -> TrainingProfile:
    """Runs a training for :data:`WARM_UP` iterations, for ``iterations`` more without and as many with torch's profiler.

    Raises:
        ValueError: if the training is shorter.
    """
    runner, hook = Runner.from_cfg(config), _ProfileHook(iterations)
    runner.register_hook(hook, priority='VERY_HIGH')
    try:
        runner.train()
    except _Finished:
        events = hook.profiler.events()
        return TrainingProfile(seconds_of_parts(events, hook.profiled, iterations), hook.iteration, events)
    raise ValueError(
        f'expected a training of more than {WARM_UP + 2 * iterations} iterations, got one of {runner.iter}: take fewer by '
        '--iterations'
    )


class _Finished(Exception):
    """The last iteration is measured."""


class _ProfileHook(Hook):
    """Times iterations, each from its start to that of the next one; raises ``_Finished`` after the last."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self.profiler = profile(activities=[ProfilerActivity.CPU])
        self.starts: list[float] = []
        self.iteration = self.profiled = 0.0

    def before_train(self, runner: Runner) -> None:
        model, optimizer = runner.model, runner.optim_wrapper
        _record(model.data_preprocessor, 'forward', 'preprocessing')
        _record(model, '_run_forward', _NETWORK)
        for module in _losses_of(model):
            _record(module, 'forward', _LOSSES)
        _record(optimizer, 'backward', _BACKWARD)
        for method in ('step', 'zero_grad'):
            _record(optimizer, method, 'optimiser')
        _record(runner, 'call_hook', 'hooks and log')

        run_iter = runner.train_loop.run_iter

        def timed(*arguments: Any) -> None:
            self._tick()
            run_iter(*arguments)

        runner.train_loop.run_iter = timed

    def _tick(self) -> None:
        _synchronize()
        self.starts.append(time.perf_counter())
        count = len(self.starts) - 1
        if count == WARM_UP + self.iterations:
            self.iteration = median(after - before for before, after in pairwise(self.starts[WARM_UP:]))
            self.profiler.start()
            self.starts[-1] = time.perf_counter()
        elif count == WARM_UP + 2 * self.iterations:
            self.profiled = self.starts[-1] - self.starts[-1 - self.iterations]
            self.profiler.stop()
            raise _Finished


def _losses_of(model: nn.Module) -> list[nn.Module]:
    """The modules named ``loss..``, such as ``loss_decode``, or those in a list of that name; without losses inside a loss."""
    losses: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        is_loss = any(part.startswith('loss') for part in name.split('.')[-2:]) and not isinstance(
            module, nn.ModuleList
        )
        if is_loss and not any(name.startswith(f'{outer}.') for outer in losses):
            losses[name] = module
    return list(losses.values())


def _record(owner: Any, method: str, part: str) -> None:
    """Makes torch's profiler record the calls of a method as a range."""
    call = getattr(owner, method)

    def recorded(*arguments: Any, **settings: Any) -> Any:
        with record_function(_RANGE + part):
            output = call(*arguments, **settings)
            _synchronize()
            return output

    setattr(owner, method, recorded)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of_parts(events: EventList, total: float, iterations: int) -> dict[str, float]:
    """Seconds of an iteration in each part of a training.

    Args:
        events: torch's, with the ranges of ``_ProfileHook``.
        total: seconds of all iterations.
        iterations: their number.
    """
    seconds = dict.fromkeys(
        ('data', 'preprocessing', _NETWORK, _LOSSES, 'losses, backward', _BACKWARD, 'optimiser', 'hooks and log'), 0.0
    )
    for event in events:
        if event.name.startswith(_RANGE):
            seconds[event.name.removeprefix(_RANGE)] += event.cpu_time_total / 1e6
        elif event.name.startswith('enumerate(DataLoader)'):
            seconds['data'] += event.cpu_time_total / 1e6
    numbers = _numbers_of_losses(events)
    seconds['losses, backward'] = sum(
        event.cpu_time_total / 1e6
        for event in events
        if event.name.startswith('autograd::engine::evaluate_function') and event.sequence_nr in numbers
    )
    seconds[_NETWORK] -= seconds[_LOSSES]
    seconds[_BACKWARD] -= seconds['losses, backward']
    seconds['network, backward'] = seconds.pop(_BACKWARD)
    seconds['other'] = total - sum(seconds.values())
    return {part: value / iterations for part, value in seconds.items()}


def _numbers_of_losses(events: EventList) -> set[int]:
    """The numbers by which autograd pairs the operators of the losses with their backward passes."""
    ranges = sorted((e.time_range.start, e.time_range.end) for e in events if e.name == _RANGE + _LOSSES)
    operators = sorted((e.time_range.start, e.sequence_nr) for e in events if e.sequence_nr >= 0)
    numbers, index = set(), 0
    for start, end in ranges:
        while index < len(operators) and operators[index][0] < end:
            if operators[index][0] >= start:
                numbers.add(operators[index][1])
            index += 1
    return numbers


def format_profile(measured: TrainingProfile) -> str:
    """A table in Markdown of milliseconds and shares, the longest part first."""
    total = sum(measured.seconds_of.values())
    lines = ['| part of an iteration | ms | share |', '|---|---|---|']
    for part, seconds in sorted(measured.seconds_of.items(), key=lambda item: -item[1]):
        lines.append(f'| {part} | {1e3 * seconds:.1f} | {seconds / total:.1%} |')
    lines.append(f'| together | {1e3 * total:.1f} | |')
    lines.append(f'| without the profiler, median | {1e3 * measured.iteration:.1f} | |')
    return '\n'.join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--amp', action='store_true', help='as of tools/train.py')
    parser.add_argument('--iterations', type=int, default=20, help='number of measured ones; 20 unless given')
    parser.add_argument(
        '--operators', type=int, default=0, metavar='COUNT', help="torch's table of the longest operators too"
    )
    add_common_arguments(parser)
    args = parser.parse_args(arguments)
    if args.iterations < 1:
        parser.error(f'--iterations: expected at least 1, got {args.iterations}')
    with tempfile.TemporaryDirectory() as folder:
        args.work_dir = args.work_dir or folder
        config = load_config(args)
        config.log_level = 'WARNING'
        if args.amp:
            use_mixed_precision(config)
        measured = profile_training(config, args.iterations)
    machine = describe_machine()
    print(
        f'\n{args.config}: {machine["cpu"]}, {machine["threads"]} threads, torch {machine["torch"]}, GPU: {machine["gpu"]}'
    )
    print(format_profile(measured))
    if args.operators:
        print(measured.events.key_averages().table(sort_by='self_cpu_time_total', row_limit=args.operators))


if __name__ == '__main__':
    main()
