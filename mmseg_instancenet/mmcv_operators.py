"""Makes ``import mmcv.ops`` work with an mmcv that has no compiled operators (``mmcv-lite``).

mmdet and mmseg import ``mmcv.ops`` everywhere, and ``mmcv.ops`` loads the compiled extension ``mmcv._ext`` at its import. This
package calls none of its operators. Where the extension is missing, :func:`provide_operators` lets Python find a stand-in for
that one module, so that the imports succeed:

- ``nms`` and ``roi_align`` (average pooling, forward and backward) are computed by torchvision, which has both with the same
  meaning: mmdet's Mask R-CNN trains and predicts;
- every other operator raises :class:`OperatorNotCompiledError` when it is called, and only then.

Where mmcv has compiled operators nothing is changed. The package calls :func:`provide_operators` at its own import, before it
imports mmdet or mmseg. A program that imports ``mmcv.ops``, ``mmdet.apis`` or ``mmseg.models`` earlier gets mmcv's
``ModuleNotFoundError: No module named 'mmcv._ext'``; ``import mmseg_instancenet`` above that line mends it.

MMEngine 0.10 looks for the extension by ``pkgutil.find_loader`` when it builds an optimizer; Python 3.14 no longer has it:
:func:`mend_search_for_extension`.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import mmengine.utils.dl_utils.misc as mmengine_search
import torch

EXTENSION = 'mmcv._ext'


class OperatorNotCompiledError(RuntimeError):
    """Error for a call of an operator that mmcv, installed without compiled operators, does not have."""

    def __init__(self, operator: str, remedy: str) -> None:
        super().__init__(
            f"mmcv's operator {operator} is not compiled: mmcv-lite is installed. {remedy}: "
            'pip uninstall mmcv-lite && pip install -U openmim && mim install "mmcv>=2.0.0,<2.2.0"'
        )


def provide_operators() -> bool:
    """Installs the stand-in for ``mmcv._ext`` if mmcv has no compiled operators.

    Returns:
        Whether the stand-in is in use; False where mmcv has compiled operators.

    Example:
        >>> import mmseg_instancenet  # calls provide_operators()
        >>> from mmcv.ops import nms  # works with mmcv and with mmcv-lite
    """
    if any(isinstance(finder, _OperatorFinder) for finder in sys.meta_path):
        return True
    if importlib.util.find_spec(EXTENSION) is not None:
        return False
    sys.meta_path.append(_OperatorFinder())
    return True


def mend_search_for_extension() -> None:
    """Makes MMEngine 0.10's search for ``mmcv._ext`` work on Python 3.14; does nothing on Python that has
    ``pkgutil.find_loader``."""
    if not hasattr(pkgutil, 'find_loader'):
        # Only the name in MMEngine's module is replaced; Python's own pkgutil is unchanged.
        mmengine_search.pkgutil = SimpleNamespace(find_loader=importlib.util.find_spec)


class _OperatorFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and loads the stand-in for ``mmcv._ext`` and no other module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self, origin=__name__) if fullname == EXTENSION else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _OperatorModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(
            nms=nms,
            roi_align_forward=roi_align_forward,
            roi_align_backward=roi_align_backward,
            # No operators: mmcv's collect_env prints both, and prints 'n/a' itself where mmcv.ops cannot be imported.
            get_compiler_version=lambda: 'n/a',
            get_compiling_cuda_version=lambda: 'n/a',
        )


class _OperatorModule(ModuleType):
    """Stand-in module with every operator that mmcv may look up; those without an implementation raise an error when
    called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):  # Python's own look-ups, e.g. __path__ and __file__
            raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise OperatorNotCompiledError(
                name, 'mmseg_instancenet does not need it; a model of mmdet or mmseg that does needs compiled operators'
            )

        return missing


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int) -> torch.Tensor:
    """``mmcv._ext.nms`` by torchvision.

    Args:
        boxes: (P, 4) float, x1 y1 x2 y2.
        scores: (P,) float.
        iou_threshold: a box is removed if its IoU with a kept box of a higher score is above it.
        offset: 0, or 1 if a box contains its last row and column: its width is then x2 - x1 + 1.

    Returns:
        (Q,) int64 indices of the kept boxes, by falling score.
    """
    from torchvision.ops import nms as torchvision_nms

    if offset:
        # Widths, heights and intersections all grow by the offset, exactly as if x2 and y2 did.
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision_nms(boxes, scores.to(boxes.dtype), iou_threshold)


def roi_align_forward(
    input: torch.Tensor,
    rois: torch.Tensor,
    output: torch.Tensor,
    argmax_y: torch.Tensor,
    argmax_x: torch.Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """``mmcv._ext.roi_align_forward`` by torchvision: fills ``output`` (R, C, aligned_height, aligned_width).

    Args:
        input: (N, C, h, w) features.
        rois: (R, 5) index of the image, x1, y1, x2, y2.
        output: result, written in place.
        argmax_y, argmax_x: used by maximum pooling alone.
        pool_mode: 1 for the average; 0, the maximum, is not in torchvision.

    Raises:
        OperatorNotCompiledError: with maximum pooling.
    """
    from torchvision.ops import roi_align

    _require_average(pool_mode)
    size = (aligned_height, aligned_width)
    output.copy_(roi_align(input, rois.to(input.dtype), size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: torch.Tensor,
    rois: torch.Tensor,
    argmax_y: torch.Tensor,
    argmax_x: torch.Tensor,
    grad_input: torch.Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """``mmcv._ext.roi_align_backward`` by torchvision: fills ``grad_input`` (N, C, h, w); see :func:`roi_align_forward`."""
    import torchvision  # noqa: F401  (registers its operators with torch)

    _require_average(pool_mode)
    # The operator behind the gradient of torchvision.ops.roi_align; through autograd the forward pass would be computed again.
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output,
        rois.to(grad_output.dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(gradient)


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise OperatorNotCompiledError(
            "roi_align with pool_mode='max'",
            "Use pool_mode='avg', which torchvision has, or install compiled operators",
        )
