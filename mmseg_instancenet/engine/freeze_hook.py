"""Training in two phases with one command."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn

from .unwrapping import bare_model


@HOOKS.register_module()
class FreezeHook(Hook):
    """Keeps parts of the model fixed until an epoch (or iteration), then trains everything.

    While frozen, the parts get no gradient and stay in evaluation mode, so that their batch norm statistics do not
    move either. The optimizer holds all parameters from the start: it skips those without a gradient, so that
    checkpoints of both phases have the same shape and training resumes on either side of the switch. DistributedDataParallel
    synchronises just the parameters that required a gradient when it wrapped the model, hence the model is wrapped
    anew at each switch.

    Args:
        modules: names of the parts, e.g. ``'backbone'`` or ``['backbone', 'decode_head.aspp_modules']``.
        until: epoch (or iteration) with which their training begins, counted from 0.
        by_epoch: whether ``until`` counts epochs or iterations.
    """

    # Before the hooks that look at the model (EMA, checkpoints), so that they see the phase that is to come.
    priority = 'VERY_HIGH'

    def __init__(self, modules: str | Sequence[str], until: int, by_epoch: bool = True) -> None:
        self.modules = [modules] if isinstance(modules, str) else list(modules)
        if until < 0:
            raise ValueError(f'expected until >= 0, got {until}')
        self.until, self.by_epoch = until, by_epoch
        self._frozen: bool | None = None

    def before_train(self, runner: Runner) -> None:
        self._enter(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch:
            self._enter(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if not self.by_epoch:
            self._enter(runner)
        if self._frozen:
            # The loop calls model.train() after before_train_epoch and after each validation.
            for part in self._parts(runner):
                if part.training:
                    part.eval()

    def _enter(self, runner: Runner) -> None:
        frozen = (runner.epoch if self.by_epoch else runner.iter) < self.until
        if frozen == self._frozen:
            return
        self._frozen = frozen
        for part in self._parts(runner):
            part.requires_grad_(not frozen)
            part.train(not frozen)
        if is_model_wrapper(runner.model):
            if type(runner.model) is not MMDistributedDataParallel:
                raise TypeError(
                    f'FreezeHook knows MMDistributedDataParallel, got {type(runner.model).__name__}: train the two phases '
                    'as two runs (frozen_stages in the first, load_from in the second)'
                )
            runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), runner.model.module)
        unit = 'epoch' if self.by_epoch else 'iteration'
        state = f'frozen until {unit} {self.until}' if frozen else f'trained from {unit} {self.until} on'
        runner.logger.info(f'FreezeHook: {", ".join(self.modules)} {state}')

    def _parts(self, runner: Runner) -> list[nn.Module]:
        model = bare_model(runner.model)
        try:
            return [model.get_submodule(name) for name in self.modules]
        except AttributeError as error:
            children = [name for name, _ in model.named_children()]
            raise ValueError(f'FreezeHook: no part named in {self.modules}; the model has {children}') from error
