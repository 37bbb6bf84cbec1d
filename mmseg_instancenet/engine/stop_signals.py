"""Signals that ask a training to stop: SIGINT from the keyboard, SIGTERM from a queue."""

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch.utils.data import DataLoader

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Notes the first SIGINT or SIGTERM, so that a training can stop where it loses nothing; the second one stops it at once."""

    def __init__(self) -> None:
        self.received = 0
        """Number of the signal that this process has got; 0 for none."""
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Begins to note signals. Without effect outside of the main thread, which alone gets signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}

    def ignore(self) -> None:
        """Gives the signals back the effect that they had before :meth:`listen`."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def agreed(self) -> int:
        """The signal that any process of the training has got; 0 for none. Of several processes all have to call it."""
        if get_world_size() == 1:
            return self.received
        received = torch.tensor(self.received)
        all_reduce(received, op='max')
        return int(received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.ignore()
        # Not by print, which the signal may have interrupted.
        name = signal.Signals(number).name
        os.write(2, f'\n{name}: the training stops with a checkpoint; a second signal stops it at once\n'.encode())


def keep_workers(loader: DataLoader) -> None:
    """Makes the workers of a data loader outlive a signal to the whole process group, as a keyboard and queues send it: a
    training can then finish its iteration. Workers that are already running stay as they are."""
    if loader.num_workers:
        loader.worker_init_fn = partial(_keep_worker, loader.worker_init_fn)


def _keep_worker(init_fn: Callable[[int], None] | None, worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):  # not on macOS and Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_obey_the_training, daemon=True).start()
    if init_fn is not None:
        init_fn(worker)


def _obey_the_training() -> None:
    """Ends the worker by a SIGTERM of the training's process, which so stops its workers when it fails, and by no other."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
