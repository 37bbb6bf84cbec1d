"""Hook that stops a training whose loss is NaN or infinite."""

import math

from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..structures import describe_images


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Raises ValueError in the iteration whose loss, or length of the gradient, is NaN or infinite; names it and its images.

    The weights are useless from there on. The hook comes before those that save a checkpoint, so that this iteration writes none
    and earlier ones stay. It reads the numbers that MMEngine's ``RuntimeInfoHook`` has brought from the GPU for the log, in
    every iteration; mmdet's ``CheckInvalidLossHook`` waits for the GPU itself, looks at every 50th iteration unless told
    otherwise, and names no image. Losses on embeddings refuse values that are not finite themselves, before the weights change.

    The length of the gradient is known where ``clip_grad`` is set. MMEngine's ``AmpOptimWrapper`` leaves out an iteration whose
    gradient overflows, as its loss scale has to; there it is not looked at.

    In ``default_hooks`` of the base config, where a config with ``custom_hooks`` of its own keeps it.
    """

    priority = 'HIGH'  # after RuntimeInfoHook, before those that save

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        names = list(outputs or ())
        if not isinstance(runner.optim_wrapper, AmpOptimWrapper):
            names.append('grad_norm')
        logged = runner.message_hub.log_scalars
        values = {name: logged[f'train/{name}'].current() for name in names if f'train/{name}' in logged}
        wrong = [f'{name} {value}' for name, value in values.items() if not math.isfinite(value)]
        if not wrong:
            return
        samples = data_batch.get('data_samples', ()) if isinstance(data_batch, dict) else ()
        raise ValueError(
            f'the training has diverged: expected finite losses, got {", ".join(wrong)}. Lower the learning rate, or clip '
            'gradients with optim_wrapper.clip_grad=dict(max_norm=...), and go on from an earlier checkpoint, of which this '
            f'iteration has written none: --resume ({describe_images(samples)})'
        )
