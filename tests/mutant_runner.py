"""Runs tests against mutants, each in a fork of one process that has imported torch and OpenMMLab, but not the package.

::

    python tests/mutant_runner.py COPY < MUTANTS > OUTCOMES

COPY is a copy of the repository, whose files the mutants replace one after the other. Each line of MUTANTS is a json with
``file`` (a path in COPY), ``source`` (its content), ``arguments`` (of pytest) and ``seconds`` (the limit). The line of OUTCOMES
for it has ``status``: pytest's exit status, ``null`` where the time was over; and ``seconds``.
"""

import importlib
import importlib.util
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

_LIBRARIES = (
    'mmseg.apis',
    'mmdet.apis',
    'mmengine.runner',
    'matplotlib.pyplot',
    'pandas',
    'pycocotools.cocoeval',
    'scipy.ndimage',
    'scipy.sparse.csgraph',
    'skimage.measure',
    'skimage.morphology',
    'skimage.segmentation',
    'sklearn.datasets',
    'tifffile',
)
_MOST_BYTES = 12 << 30
"""Of address space: a fault in a size must not take the memory of the machine."""


def main() -> None:
    copy = Path(sys.argv[1]).resolve()
    os.chdir(copy)
    sys.path = [str(copy), *(path for path in sys.path if Path(path or '.').resolve() not in (copy / 'tests', copy))]
    sys.dont_write_bytecode = True  # the bytecode of a mutant would be taken for that of the file
    _import_libraries(copy)
    context = multiprocessing.get_context('fork')
    for line in sys.stdin:
        job = json.loads(line)
        file = copy / job['file']
        original, begin = file.read_bytes(), time.monotonic()
        file.write_text(job['source'], 'utf-8')
        process = context.Process(target=_run, args=(job['arguments'],))
        process.start()
        process.join(job['seconds'])
        status = process.exitcode
        if status is None:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that its tests started
            process.join()
        file.write_bytes(original)
        print(json.dumps({'status': status, 'seconds': time.monotonic() - begin}), flush=True)


def _import_libraries(copy: Path) -> None:
    """mmcv's operators come first, from a module of the package that imports nothing of it."""
    spec = importlib.util.spec_from_file_location('operators', copy / 'mmseg_instancenet/mmcv_operators.py')
    assert spec is not None and spec.loader is not None
    operators = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(operators)
    operators.provide_operators()
    operators.mend_search_for_extension()
    for library in _LIBRARIES:
        importlib.import_module(library)
    assert 'mmseg_instancenet' not in sys.modules


def _run(arguments: list[str]) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    torch.set_num_threads(1)
    os._exit(pytest.main([*arguments, '-x', '-q', '-p', 'no:cacheprovider', '-p', 'no:xdist']))


if __name__ == '__main__':
    main()
