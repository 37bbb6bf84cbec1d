"""Head and data must agree on the classes."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

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
        model = bare_model(runner.model)
        for name, module in model.named_modules():
            is_head = name.startswith(('decode_head', 'auxiliary_head')) and hasattr(module, 'loss_by_feat')
            if is_head and module.num_classes != len(classes) + 1:
                raise ValueError(
                    f'model.{name} has num_classes={module.num_classes}, but the data have {len(classes)} classes: expected '
                    f'num_classes={len(classes) + 1} (background included). Set model.{name}.num_classes, or '
                    'metainfo=dict(classes=(...)) of the data set'
                )
