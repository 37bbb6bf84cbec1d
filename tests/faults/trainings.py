"""Small trainings of digits in processes of their own, for faults that hit a training."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from programs import CONTEXT, run_forked

from mmseg_instancenet.datasets.digits import write_digits

EPOCHS, IMAGES, BATCH = 5, 80, 4
ITERATIONS = EPOCHS * IMAGES // BATCH
"""Of one training: a hundred, with a checkpoint after each epoch of twenty."""


def write_data(folder: Path) -> Path:
    """Writes the images of the trainings, and returns their folder."""
    write_digits(folder, IMAGES, 12)
    return folder


@dataclass
class Training:
    """tools/train.py on a few digits, a hundred iterations.

    data: folder of :func:`write_data`.
    work_dir: of the training.
    options: further settings.
    last: name of the last checkpoint.
    """

    data: Path
    work_dir: Path
    options: list[str] = field(default_factory=list)
    last: str = f'epoch_{EPOCHS}.pth'

    def command(self, *more: str, work_dir: Path | None = None) -> list[str]:
        """The words of the command line, after the Python interpreter."""
        settings = [
            f'train_dataloader.dataset.data_root={self.data}', f'val_dataloader.dataset.data_root={self.data}',
            f'train_dataloader.batch_size={BATCH}', 'val_dataloader.batch_size=2', f'train_cfg.max_epochs={EPOCHS}',
            'train_cfg.val_interval=2', 'default_hooks.logger.interval=1', 'default_hooks.panels.count=1', *self.options,
        ]  # fmt: skip
        if any(setting.startswith('train_cfg._delete_') for setting in settings):
            settings = [
                each for each in settings if each not in (f'train_cfg.max_epochs={EPOCHS}', 'train_cfg.val_interval=2')
            ]
        words = ['tools/train.py', 'configs/instancenet_digits.py', '--work-dir', str(work_dir or self.work_dir), *more]
        return [*words, '--cfg-options', *settings]

    def start(self, *more: str) -> 'Run':
        """Starts the program in a process of its own."""
        return Run(self.command(*more), self._log)

    def output(self) -> str:
        """What all starts have written, each iteration of the training in a line."""
        return self._log.read_text()

    @property
    def _log(self) -> Path:
        return self.work_dir.with_suffix('.log')

    def finish(self, *more: str) -> dict:
        """Runs the program to its end and returns the last checkpoint.

        Raises:
            RuntimeError: with the end of the output, if its exit status is not 0.
        """
        run = self.start(*more)
        if status := run.wait():
            raise RuntimeError(f'exit status {status}: {run.output()[-2000:]}')
        return torch.load(self.work_dir / self.last, weights_only=True)


class Run:
    """A program that runs, as the leader of a process group; its workers belong to the group."""

    def __init__(self, command: list[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        self._log = log
        self.process = CONTEXT.Process(target=_lead, args=(command, str(log)))
        self.process.start()

    def wait(self, until: Callable[[], bool] | None = None, seconds: float = 120) -> int | None:
        """Waits for the end, or until something is the case.

        Returns:
            The exit status (negative: the signal that ended the process); ``None`` while it runs.
        """
        end = time.monotonic() + seconds
        while self.process.exitcode is None and time.monotonic() < end:
            if until is not None and until():
                return None
            self.process.join(0.001 if until else 0.1)
        if self.process.exitcode is None and until is None:
            self.process.kill()
            raise RuntimeError(f'no end within {seconds} s: {self.output()[-2000:]}')
        return self.process.exitcode

    def wait_for(self, text: str) -> int | None:
        """Waits until the output has a text, or for the end, as :meth:`wait`."""
        return self.wait(lambda: text in self.output())

    def send(self, number: signal.Signals, group: bool = False) -> None:
        """Sends a signal to the process, or to its whole group as a keyboard does."""
        with suppress(ProcessLookupError):  # it has ended
            (os.killpg if group else os.kill)(self.process.pid, number)

    def output(self) -> str:
        return self._log.read_text()


def _lead(command: list[str], log: str) -> None:
    os.setpgid(0, 0)
    run_forked(command, str(Path(__file__).parents[2]), log)


def same(first: dict, second: dict) -> bool:
    """Whether two checkpoints have the same weights and the same state of the optimizer, bit for bit."""
    return _equal(first['state_dict'], second['state_dict']) and _equal(first['optimizer'], second['optimizer'])


def _equal(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return (
            isinstance(second, dict)
            and first.keys() == second.keys()
            and all(_equal(first[key], second[key]) for key in first)
        )
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_equal, first, second))
    return first == second
