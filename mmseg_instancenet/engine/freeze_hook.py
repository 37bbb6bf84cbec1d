"""Training in two phases with one command: parts of the model are frozen in the first."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS
from torch import nn


def bare_model(model: nn.Module) -> nn.Module:
    """Removes the wrappers DistributedDataParallel and test-time augmentation from a model."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.get_submodule('module')
    return model


@HOOKS.register_module()
class FreezeHook(Hook):
    """Freezes parts of the model until an epoch (or iteration), then trains them as the config sets it.

    While frozen, the parts get no gradient and stay in evaluation mode, so that their batch norm statistics do not
    move either. Afterwards the same parameters are trained as without the hook: those that
    ``norm_cfg.requires_grad``, ``frozen_stages`` or ``norm_eval`` fix stay fixed. If several hooks freeze the same part, it is
    trained when the last of them has ended.

    The optimizer holds all parameters from the start: it skips those without a gradient, so that
    checkpoints of both phases have the same shape and training resumes on either side of the switch. DistributedDataParallel
    synchronises just the parameters that required a gradient when it wrapped the model, hence the model is wrapped
    anew at each switch.

    Args:
        modules: names of the parts, e.g. ``'backbone'`` or ``['backbone', 'decode_head.aspp_modules']``.
        until: epoch (or iteration) with which their training begins, counted from 0.
        by_epoch: whether ``until`` counts epochs or iterations. MMEngine's ``IterBasedTrainLoop`` counts no epochs: there
            ``by_epoch=False`` is needed, and the training stops before its first iteration without it.
    """

    # Runs before the hooks that read the model (EMA, checkpoints), so that they get the new phase.
    priority = 'VERY_HIGH'

    def __init__(self, modules: str | Sequence[str], until: int, by_epoch: bool = True) -> None:
        self.modules = [modules] if isinstance(modules, str) else list(modules)
        if until < 0:
            raise ValueError(f'expected until >= 0, got {until}')
        self.until, self.by_epoch = until, by_epoch
        self._frozen: bool | None = None
        self._found: dict[nn.Parameter, bool] = {}

    def before_run(self, runner: Runner) -> None:
        """Records which parameters are trained, before the first of several hooks freezes any."""
        if not self._found:
            self._found = {
                parameter: parameter.requires_grad for part in self._parts(runner) for parameter in part.parameters()
            }

    def before_train(self, runner: Runner) -> None:
        if self.by_epoch and self.until > 0 and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                f'{type(self).__name__}(until={self.until}, by_epoch=True) counts epochs, and the epoch of an IterBasedTrainLoop '
                f'stays 0: {", ".join(self.modules)} would never be trained. Expected by_epoch=False, with until as a number of '
                'iterations'
            )
        self._enter(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch:
            self._enter(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if not self.by_epoch and self._enter(runner) and not self._frozen:
            # As the loop does before an epoch; modules that the model keeps in evaluation mode (norm_eval) stay in it.
            runner.model.train()
        for hook in self._freezing(runner):
            # The loop calls model.train() after before_train_epoch and after each validation.
            for part in hook._parts(runner):
                part.eval()

    def _enter(self, runner: Runner) -> bool:
        """Starts the phase of this epoch or iteration; returns whether the phase has changed."""
        frozen = (runner.epoch if self.by_epoch else runner.iter) < self.until
        if frozen == self._frozen:
            return False
        self._frozen = frozen
        held = {parameter for hook in self._freezing(runner) for parameter in hook._found}
        wanted = {parameter: found and parameter not in held for parameter, found in self._found.items()}
        if any(parameter.requires_grad != trained for parameter, trained in wanted.items()):
            for parameter, trained in wanted.items():
                parameter.requires_grad_(trained)
            self._wrap_anew(runner)
        unit = 'epoch' if self.by_epoch else 'iteration'
        state = f'frozen until {unit} {self.until}' if frozen else f'trained from {unit} {self.until} on'
        runner.logger.info(f'{type(self).__name__}: {", ".join(self.modules)} {state}')
        return True

    @staticmethod
    def _freezing(runner: Runner) -> list['FreezeHook']:
        return [hook for hook in runner.hooks if isinstance(hook, FreezeHook) and hook._frozen]

    @staticmethod
    def _wrap_anew(runner: Runner) -> None:
        if is_model_wrapper(runner.model):
            # Its derived classes, such as CPUDistributedDataParallel, wrap the whole model too; the config names which.
            if not isinstance(runner.model, MMDistributedDataParallel):
                raise TypeError(
                    f'FreezeHook supports MMDistributedDataParallel, got {type(runner.model).__name__}: train the two phases '
                    'as two runs (frozen_stages in the first, load_from in the second)'
                )
            runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), runner.model.module)

    def _parts(self, runner: Runner) -> list[nn.Module]:
        model = bare_model(runner.model)
        try:
            return [model.get_submodule(name) for name in self.modules]
        except AttributeError as error:
            children = [name for name, _ in model.named_children()]
            raise ValueError(f'FreezeHook: no part named in {self.modules}; the model has {children}') from error
