"""What a checkpoint gave to the model, and what it did not."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from .freeze_hook import bare_model


def load_report(checkpoint: dict, model_state: dict) -> str:
    """One line each: how much is loaded, what the checkpoint lacks, what has another shape, what the model lacks.

    Args:
        checkpoint: as loaded; the weights may lie under ``state_dict``, names may begin with ``module.``.
        model_state: the model's ``state_dict()``.
    """
    state = {
        name[7:] if name.startswith('module.') else name: value
        for name, value in checkpoint.get('state_dict', checkpoint).items()
    }
    same = [name for name in model_state if name in state and state[name].shape == model_state[name].shape]
    shapes = [
        f'{name} {tuple(state[name].shape)} -> {tuple(model_state[name].shape)}'
        for name in model_state
        if name in state and state[name].shape != model_state[name].shape
    ]
    lines = [f'loaded {len(same)} of the {len(model_state)} tensors of the model']
    for title, names in (
        ('kept as initialised, other shape in the checkpoint', shapes),
        ('kept as initialised, not in the checkpoint', [name for name in model_state if name not in state]),
        ('left over in the checkpoint', [name for name in state if name not in model_state]),
    ):
        if names:
            lines.append(f'{title} ({len(names)}): {", ".join(names)}')
    return '\n'.join(lines)


@HOOKS.register_module()
class LoadReportHook(Hook):
    """Logs :func:`load_report` for ``load_from`` and refuses a checkpoint that gives nothing to the model."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = bare_model(runner.model)
        report = load_report(checkpoint, model.state_dict())
        runner.logger.info(report)
        if report.startswith('loaded 0 '):
            raise ValueError(f'the checkpoint shares no tensor with the model:\n{report}')
