"""Imports the programs that tools/export.py copies, from the folder in which they lie."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import mmseg_instancenet.export

PROGRAM = Path(mmseg_instancenet.export.__file__).parent / 'program'


def load(name: str, folder: Path = PROGRAM) -> ModuleType:
    """The module of ``name``.py, found beside ``grouping.py``; no other test gets it by this name."""
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(f'exported_{name}', folder / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(folder))
        for beside in ('grouping', 'mean_shift'):
            sys.modules.pop(beside, None)
