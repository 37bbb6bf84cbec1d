"""Check of a training's settings before its first iteration."""

from collections.abc import Sequence
from typing import Any

from mmdet.evaluation import CocoMetric
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from mmseg.registry import HOOKS
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from ..datasets.transforms.mixed_pipeline import check_mixed_pipeline
from ..datasets.wrappers import repeats_images, transforms_of
from ..evaluation.metric_names import metric_names
from .freeze_hook import bare_model
from .single_value_norms import refuse_single_values
from .training_batches import batch_of_one, check_batches


def check_settings(runner: Runner) -> None:
    """Raises ValueError for settings with which a training has no effect, never ends or fails late; the message gives
    the numbers.

    - an epoch without iterations, or without an end (:func:`check_batches`);
    - a transform that cannot move mmdet's boxes or masks (:func:`check_mixed_pipeline`);
    - ``save_best`` of a value that no metric of the validation gives (:func:`metric_names`).

    Args:
        runner: MMEngine's; its loops and data sets are built, as its ``train()`` would do next.
    """
    if runner.train_loop is None:
        return  # MMEngine's train() names the missing part
    check_batches(runner.train_loop)
    _check_data(runner.train_loop)
    if runner.val_loop is not None:
        _check_validation(runner.val_loop)
        _check_save_best(runner)


@HOOKS.register_module()
class SettingsHook(Hook):
    """Calls :func:`check_settings` before a training, and checks what can be checked only later:

    - a batch norm over one value in each channel of an image, in a training whose batches, or the last of an epoch, have one
      image, stops the first iteration (:func:`refuse_single_values`);
    - where a validation lacks the value of ``save_best`` all the same (mmdet's ``CocoMetric`` has none where nothing was
      found), a warning takes the place of MMEngine's KeyError, and the best checkpoint stays the one before.

    Before a validation or test: an image that comes more than once is refused where COCO's AP is measured, which pools its
    detections.

    In ``default_hooks`` of the base config, where a config with ``custom_hooks`` of its own keeps it.
    """

    # After the hooks that read the values of a validation, and just before CheckpointHook.
    priority = 80

    def __init__(self) -> None:
        self._listening: list[RemovableHandle] = []
        self._first = False

    def before_train(self, runner: Runner) -> None:
        check_settings(runner)

    def before_val(self, runner: Runner) -> None:
        _check_validation(runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        _check_validation(runner.test_loop)

    def before_train_epoch(self, runner: Runner) -> None:
        self._first = True  # in each epoch: a FreezeHook may have put another part into training mode

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        inputs = data_batch.get('inputs') if isinstance(data_batch, dict) else None
        if self._first and isinstance(inputs, (Sequence, Tensor)) and (single := batch_of_one(runner.train_loop)):
            self._listening = refuse_single_values(bare_model(runner.model), len(inputs), single)
        self._first = False

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        while self._listening:
            self._listening.pop().remove()

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if not metrics:
            return  # CheckpointHook warns
        for key in _best_metrics(runner):
            if key not in metrics:
                runner.logger.warning(
                    f'save_best={key!r}: this validation gave no such value but {sorted(metrics)}; no best checkpoint is saved'
                )
                metrics[key] = None  # CheckpointHook then leaves the value out


def _check_data(loop: BaseLoop) -> None:
    for transforms in transforms_of(loop.dataloader.dataset):
        check_mixed_pipeline(transforms)


def _check_validation(loop: BaseLoop) -> None:
    _check_data(loop)
    dataset = loop.dataloader.dataset
    if repeats_images(dataset) and any(isinstance(metric, CocoMetric) for metric in loop.evaluator.metrics):
        raise ValueError(
            f"{type(dataset).__name__} gives images more than once, and COCO's AP pools all detections of an image: expected "
            'each image once in val_dataloader and test_dataloader'
        )


def _best_metrics(runner: Runner) -> list[str]:
    """The values of ``save_best``, without 'auto'."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and hook.save_best]
    return [key for hook in hooks for key in hook.key_indicators if key != 'auto']


def _check_save_best(runner: Runner) -> None:
    wanted = _best_metrics(runner)
    names = metric_names(runner.val_loop.evaluator.metrics) if wanted else None
    if names is None:
        return
    missing = [key for key in wanted if key not in names]
    if missing:
        raise ValueError(
            f'default_hooks.checkpoint.save_best={missing[0]!r}: no metric of val_evaluator gives it. Expected one of '
            f"{sorted(names)}, with rule='greater' or rule='less', or save_best=None"
        )
