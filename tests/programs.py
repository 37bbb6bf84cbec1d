"""Runs programs, each in a process of its own, without the five seconds in which a fresh Python imports OpenMMLab.

Each process is a fork of one that has imported the package and done nothing else (multiprocessing's ``forkserver``).
"""

import gc
import multiprocessing
import os
import runpy
import sys
import tempfile
import warnings
from pathlib import Path

import torch

REPOSITORY = Path(__file__).parents[1]

CONTEXT = multiprocessing.get_context('forkserver')
"""Starts processes that have the package imported."""
CONTEXT.set_forkserver_preload(
    ['mmseg_instancenet', 'mmseg.apis', 'mmdet.apis', 'mmengine.runner', 'matplotlib.pyplot', 'sklearn.datasets']
)


def run_program(*arguments: str | Path, cwd: Path = REPOSITORY, succeeds: bool = True) -> str:
    """Runs a Python file, or a module, on one thread, as ``python FILE ARGUMENTS`` and ``python -m MODULE ARGUMENTS`` do.

    Args:
        arguments: the file, absolute or relative to ``cwd``, or '-m' and a module; and its arguments.
        cwd: working directory.
        succeeds: whether the exit status has to be 0.

    Returns:
        standard output and standard error, in the order in which they were written.

    Raises:
        AssertionError: with the end of the output, if the exit status is another one, or after ten minutes.
    """
    with tempfile.NamedTemporaryFile(mode='r') as log:
        process = CONTEXT.Process(target=run_forked, args=([str(part) for part in arguments], str(cwd), log.name))
        process.start()
        process.join(timeout=600)
        if process.exitcode is None:
            process.kill()
            process.join()
        output = log.read()
    assert (process.exitcode == 0) == succeeds, f'exit status {process.exitcode}\n{output[-3000:]}'
    return output


def run_forked(arguments: list[str], cwd: str, log: str) -> None:
    """Runs a program in this process, a fork: the target of a process of :data:`CONTEXT`.

    Args:
        arguments: as for :func:`run_program`.
        cwd: working directory.
        log: file that exists, to which the output is appended.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.chdir(cwd)
    gc.freeze()  # the imported modules need no garbage collection
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    if arguments[0] == '-m':
        sys.argv = arguments[1:]
        sys.path.insert(0, cwd)
        runpy.run_module(arguments[1], run_name='__main__', alter_sys=True)
    else:
        program = Path(arguments[0]).resolve()
        sys.argv = arguments
        sys.path.insert(0, str(program.parent))
        runpy.run_path(str(program), run_name='__main__')
