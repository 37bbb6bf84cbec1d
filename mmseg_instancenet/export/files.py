"""Writes the files of an exported model: ``model.onnx``, ``predict.py``, ``grouping.py`` and ``mean_shift.py``."""

import importlib
import shutil
from importlib import metadata
from pathlib import Path

from mmengine.config import Config

from ..models import EmbeddingSegmentor
from .network import ExportedNetwork, write_onnx
from .settings import export_settings

_OLDEST_TORCH = (2, 6)
"""The first whose exporter takes a network at any sizes (``torch.onnx.export(dynamo=True)`` with ``dynamic_shapes``)."""


def write_exported(model: EmbeddingSegmentor, config: Config, path: Path) -> Path:
    """Writes a model as ONNX, with ``predict.py``, ``grouping.py`` and ``mean_shift.py`` beside it, which find objects with it.

    Args:
        model: that ``init_model`` has built, on the CPU.
        config: of the model.
        path: of the ONNX file.

    Returns:
        the path of predict.py.

    Raises:
        ImportError: if torch is older than 2.6, or onnx or onnxscript is not installed.
        ValueError: for a model that cannot be exported; see :func:`export_settings`.
    """
    check_packages()
    settings = export_settings(model, config)
    eight_bits = settings['longer_side'] is not None and settings['percentiles'] is None
    write_onnx(ExportedNetwork(model, settings['divisor'], eight_bits).eval(), settings['channels'], settings, path)
    for program in ('grouping.py', 'mean_shift.py', 'predict.py'):
        shutil.copyfile(Path(__file__).parent / 'program' / program, path.with_name(program))
    return path.with_name('predict.py')


def check_packages() -> None:
    """Raises ImportError, with the command that mends it, unless the packages of an export are there."""
    version = metadata.version('torch')
    if tuple(int(part) for part in version.split('+')[0].split('.')[:2]) < _OLDEST_TORCH:
        raise ImportError(f'an export needs torch 2.6 or newer, found {version}: pip install "torch>=2.6"')
    for name in ('onnx', 'onnxscript'):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"an export needs {name}, which is not installed: pip install -e '.[export]'") from error
