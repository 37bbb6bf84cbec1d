"""Check that the classes of heads and data agree."""

from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn
from torch.utils.data import DataLoader

from ..structures import check_class_counts, check_iou_metric, classes_of
from .freeze_hook import bare_model


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Raises an error before the first iteration if a head's ``num_classes`` is not the number of the data's classes,
    plus one for the background unless the model has ``background=False``. Joined data sets must have the same classes."""

    def before_train(self, runner: Runner) -> None:
        self._check(runner, runner.train_dataloader)

    def before_val(self, runner: Runner) -> None:
        self._check(runner, runner.val_dataloader)
        _check_metrics(runner.model, runner.val_evaluator)

    def before_test(self, runner: Runner) -> None:
        self._check(runner, runner.test_dataloader)
        _check_metrics(runner.model, runner.test_evaluator)

    def _check(self, runner: Runner, dataloader: DataLoader) -> None:
        classes = classes_of(getattr(dataloader.dataset, 'metainfo', {}))
        if classes is None:
            return
        model = bare_model(runner.model)
        check_class_counts(model, classes, getattr(model, 'background', True))


def _check_metrics(model: nn.Module, evaluator: Evaluator) -> None:
    check_iou_metric(
        [type(metric).__name__ for metric in evaluator.metrics], getattr(bare_model(model), 'background', False)
    )
