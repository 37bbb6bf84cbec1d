"""Reports which tensors of a checkpoint were loaded."""

from typing import NamedTuple

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from .freeze_hook import bare_model


class LoadReport(NamedTuple):
    """The result of comparing a checkpoint with a model; as text, one line for each kind of tensor that occurs.

    ``loaded`` of the ``total`` tensors of the model; ``other_shape``: for names of both, the shape in the checkpoint and in the
    model; ``missing``: names that the checkpoint lacks; ``left_over``: names that the model lacks.
    """

    loaded: int
    total: int
    other_shape: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    missing: list[str]
    left_over: list[str]

    def __str__(self) -> str:
        shapes = [f'{name} {before} -> {after}' for name, (before, after) in self.other_shape.items()]
        lines = [f'loaded {self.loaded} of the {self.total} tensors of the model']
        for title, names in (
            ('kept as initialised, other shape in the checkpoint', shapes),
            ('kept as initialised, not in the checkpoint', self.missing),
            ('left over in the checkpoint', self.left_over),
        ):
            if names:
                lines.append(f'{title} ({len(names)}): {", ".join(names)}')
        return '\n'.join(lines)


def load_report(checkpoint: dict, model_state: dict) -> LoadReport:
    """Compares a checkpoint with a model by the names and shapes of their tensors.

    Args:
        checkpoint: as loaded; the weights may lie under ``state_dict``, names may begin with ``module.``.
        model_state: the model's ``state_dict()``.
    """
    state = {
        name[7:] if name.startswith('module.') else name: value
        for name, value in checkpoint.get('state_dict', checkpoint).items()
    }
    shapes = {
        name: (tuple(state[name].shape), tuple(value.shape)) for name, value in model_state.items() if name in state
    }
    other_shape = {name: (before, after) for name, (before, after) in shapes.items() if before != after}
    return LoadReport(
        loaded=len(shapes) - len(other_shape),
        total=len(model_state),
        other_shape=other_shape,
        missing=[name for name in model_state if name not in state],
        left_over=[name for name in state if name not in model_state],
    )


@HOOKS.register_module()
class LoadReportHook(Hook):
    """Logs :func:`load_report` for ``load_from``, and raises an error if no tensor of the checkpoint fits the model."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = bare_model(runner.model)
        report = load_report(checkpoint, model.state_dict())
        runner.logger.info(str(report))
        if report.loaded == 0:
            raise ValueError(f'the checkpoint shares no tensor with the model:\n{report}')
