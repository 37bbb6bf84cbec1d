"""Hook that draws the losses and metrics of a training as curves."""

from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from ..visualization import OKABE_ITO, plot_curves

_VALIDATIONS = 'history_of_validations'
"""Key of the message hub for the iteration and the metrics of each validation; checkpoints keep it. One that began with 'val'
would enter the log of each validation."""
_MAX_POINTS = 200
"""Of a curve of losses: each point is the mean over a part of the training."""


class Curve(NamedTuple):
    """The xs and ys of a curve."""

    xs: list[float]
    ys: list[float]


@HOOKS.register_module()
class CurvesHook(Hook):
    """Draws ``loss.png`` and ``metrics.png`` into the folder of the log, ``WORK_DIR/TIME/``, at the end of a training.

    The values are those of MMEngine's message hub, which checkpoints keep: after ``--resume`` the curves begin with the first
    iteration. (The last validation before a resume may be missing: MMEngine writes a checkpoint before the validation of its
    epoch.) The curves of the losses are the total and its largest parts, six at most, each point the mean of a 200th of the
    training. The curves of the metrics have a point for each validation. The x axis counts epochs, or iterations where the
    training counts these. Each curve has a line style, a marker and its name at its end, and needs no colour vision.

    Args:
        metrics: which metrics of the validation are drawn, seven at most: names with or without their prefix, all with values of
            one scale. Unless changed: AP of masks, accuracy at an IoU of 0.5, AP^r, recall of proposals, and the three measures
            of boundaries, all from 0 to 1. Those that a validation does not give are left out.
    """

    def __init__(
        self,
        metrics: Sequence[str] = (
            *('segm_mAP', 'segm_mAP_50', 'segm_mAP_75', 'accuracy_50', 'APr_50', 'APr_70', 'AR@10'),
            *('ODS', 'OIS', 'AP'),
        ),
    ) -> None:
        self.metrics = tuple(metrics)
        self._trains = False

    def before_train(self, runner: Runner) -> None:
        self._trains = True

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if not self._trains:  # runner.iter would build the training set for a validation alone
            return
        numbers = {name: float(value) for name, value in (metrics or {}).items() if isinstance(value, Real)}
        earlier = runner.message_hub.get_info(_VALIDATIONS, [])
        runner.message_hub.update_info(_VALIDATIONS, [*earlier, {'iteration': runner.iter, **numbers}])

    def after_train(self, runner: Runner) -> None:
        self._trains = False
        if not is_main_process():
            return
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        unit, length = ('epoch', len(runner.train_dataloader)) if by_epoch else ('iteration', 1)
        drawn = {
            'loss': loss_curves(runner.message_hub, runner.iter),
            'metrics': metric_curves(runner.message_hub, self.metrics),
        }
        for name, curves in drawn.items():
            if curves:
                scaled: dict[str, tuple[Sequence[float], Sequence[float]]] = {
                    key: ([x / length for x in curve.xs], curve.ys) for key, curve in curves.items()
                }
                path = Path(runner.log_dir) / f'{name}.png'
                plot_curves(scaled, unit, name, str(path), log_y=name == 'loss' and _all_positive(curves))
                runner.logger.info(f'curves: {path}')


def loss_curves(message_hub: MessageHub, iteration: int) -> dict[str, Curve]:
    """The total loss and its six largest parts at most, by name.

    Args:
        message_hub: of a training; its last value is that of the iteration before ``iteration``.
        iteration: number of iterations of the training, those before a resume included.
    """
    curves = {}
    for key, history in message_hub.log_scalars.items():
        mode, _, name = key.partition('/')
        if mode == 'train' and 'loss' in name:
            values_I = history.data[0][-iteration:]
            parts = np.array_split(np.arange(len(values_I)), min(len(values_I), _MAX_POINTS))
            first = iteration - len(values_I) + 1
            curves[name] = Curve(
                [float(part.mean()) + first for part in parts], [float(values_I[part].mean()) for part in parts]
            )
    total = {name: curves.pop(name) for name in ('loss',) if name in curves}
    order = sorted(curves, key=lambda name: -np.nansum(np.abs(curves[name].ys)))
    return total | {name: curves[name] for name in order[: len(OKABE_ITO) - 1]}


def metric_curves(message_hub: MessageHub, names: Sequence[str]) -> dict[str, Curve]:
    """The metrics of all validations, in the order of ``names``, seven at most; NaN where a validation lacks one."""
    validations = message_hub.get_info(_VALIDATIONS, [])
    given = {key: None for validation in validations for key in validation if key != 'iteration'}
    chosen = [key for name in names for key in given if name in (key, key.rpartition('/')[2])][: len(OKABE_ITO)]
    iterations = [float(validation['iteration']) for validation in validations]
    return {key: Curve(iterations, [validation.get(key, np.nan) for validation in validations]) for key in chosen}


def _all_positive(curves: dict[str, Curve]) -> bool:
    """Whether every value fits a logarithmic axis."""
    return all(y > 0 for curve in curves.values() for y in curve.ys)
