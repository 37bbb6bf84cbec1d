"""Head and data must agree on the classes."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..structures import check_class_counts
from .freeze_hook import bare_model


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Stops before the first iteration where a head's ``num_classes`` is not the data's number of classes plus background."""

    def before_train(self, runner: Runner) -> None:
        self._check(runner, runner.train_dataloader)

    def before_val(self, runner: Runner) -> None:
        self._check(runner, runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        self._check(runner, runner.test_dataloader)

    def _check(self, runner: Runner, dataloader) -> None:
        classes = getattr(dataloader.dataset, 'metainfo', {}).get('classes')
        if classes is None:
            return
        check_class_counts(bare_model(runner.model), classes)
