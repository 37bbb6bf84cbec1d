"""Export of a model to ONNX, with a program that runs it without PyTorch and OpenMMLab."""

from .comparison import Differences, Instances, compare_instances
from .files import write_exported
from .network import ExportedNetwork
from .settings import check_exportable, export_settings

__all__ = [
    'Differences',
    'ExportedNetwork',
    'Instances',
    'check_exportable',
    'compare_instances',
    'export_settings',
    'write_exported',
]
