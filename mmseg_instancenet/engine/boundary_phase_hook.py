"""Hook for the two phases in which boundary detection is trained."""

from typing import Any

from mmengine.runner import Runner
from mmseg.registry import HOOKS

from .freeze_hook import FreezeHook, bare_model


@HOOKS.register_module()
class BoundaryPhaseHook(FreezeHook):
    """Trains the embeddings of a ``BoundaryHead`` until an epoch (or iteration), then the whole model by the loss on
    the fused boundary.

    In the first phase the fusion layer, which no loss reaches then, is frozen as by :class:`FreezeHook`. A training that
    resumes is in the phase of its epoch.

    Args:
        until: epoch (or iteration) with which the second phase begins, counted from 0.
        by_epoch: whether ``until`` counts epochs or iterations.
    """

    def __init__(self, until: int, by_epoch: bool = True) -> None:
        super().__init__('decode_head.conv_seg', until, by_epoch)

    def _enter(self, runner: Runner) -> bool:
        head: Any = bare_model(runner.model).decode_head  # any head that has phases
        if not hasattr(head, 'set_phase'):
            raise TypeError(
                f'BoundaryPhaseHook: expected a decode_head with set_phase, such as BoundaryHead, got {type(head).__name__}'
            )
        entered = super()._enter(runner)
        head.set_phase('embedding' if self._frozen else 'fusion')
        return entered
