"""Hook for the statistics of batch norm in several processes."""

from mmengine.dist import all_reduce_params
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


def average_buffers(runner: Runner) -> None:
    """Averages the buffers of the model over the processes, and those of the moving averages of ``EMAHook``.

    Each process has the running statistics of batch norm of its own images. A checkpoint would have those of the first process
    alone, and a validation would mix the results of as many networks as there are processes. Statistics change by a linear rule,
    so it does not matter how often they are averaged on the way.
    """
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    for model in (runner.model, *averages):
        all_reduce_params(model.buffers(), op='mean')


@HOOKS.register_module()
class AverageBuffersHook(Hook):
    """Averages the buffers over the processes before each validation and at the end of each epoch, see :func:`average_buffers`.

    MMEngine's ``SyncBuffersHook`` leaves out the copies of ``EMAHook``, which go into the checkpoint.
    ``AtomicCheckpointHook`` averages them before it saves, within an epoch too.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        average_buffers(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        average_buffers(runner)
