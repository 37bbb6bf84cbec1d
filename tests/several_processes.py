"""Runs a function in several processes of one group, as ``torchrun`` starts them, without the seconds in which a fresh Python
imports OpenMMLab."""

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from programs import CONTEXT

import mmseg_instancenet  # noqa: F401  (registers its components)


def run_ranks(function: Callable, count: int, folder: Path, *arguments: Any, seconds: float = 120) -> list:
    """Calls ``function(*arguments)`` in each of ``count`` processes, which gloo connects.

    Args:
        function: of a module; each of its values is a tensor, or a list or dict of them.
        folder: for the processes' files, made if absent; the working directory of the processes.
        seconds: after which all are killed.

    Returns:
        the values, in the order of the ranks.

    Raises:
        AssertionError: with the ends of their output, if a process fails, or the time is over.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    processes = [
        CONTEXT.Process(target=_run, args=(function, rank, count, str(folder), arguments)) for rank in range(count)
    ]
    end = time.monotonic() + seconds
    for process in processes:
        process.start()
    for process in processes:
        process.join(max(0, end - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    output = '\n'.join((folder / f'log_{rank}.txt').read_text()[-2000:] for rank in range(count))
    assert codes == [0] * count, f'exit statuses of {count} processes, after {seconds:.0f} s at most: {codes}\n{output}'
    return [torch.load(folder / f'value_{rank}.pth', weights_only=True) for rank in range(count)]


def _run(function: Callable, rank: int, count: int, folder: str, arguments: tuple) -> None:
    os.environ.update(CUDA_VISIBLE_DEVICES='', LOCAL_RANK=str(rank))  # gloo is for CPUs
    os.chdir(folder)
    descriptor = os.open(f'log_{rank}.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    gc.freeze()  # the imported modules need no garbage collection
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=count)
    torch.save(function(*arguments), f'value_{rank}.pth')
    # The group goes with the process: destroy_process_group may wait for ever (tests/evaluation/metrics).
    torch.distributed.barrier()
