"""MMEngine's hook for checkpoints, made such that no fault while it writes costs a checkpoint."""

import os.path as osp
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from ..outputs.atomic_file import atomic_file, unfinished_files
from .average_buffers_hook import average_buffers
from .checkpoint_files import AtomicLocalBackend
from .stop_signals import StopSignals, keep_workers

_INTERRUPTED = 'interrupted'
_OUTDATED = 'outdated_checkpoints'
_VALIDATED = 'validated_iteration'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, which a kill at any moment, a full disk or a signal costs no checkpoint.

    - A checkpoint is written beside its name and renamed when the disk has it. Older checkpoints are removed after that.
    - Where a checkpoint cannot be written, the training stops with the reason, and the earlier ones stay.
    - SIGINT (ctrl-C) and SIGTERM (a queue) stop the training after the iteration in which they come, or within a validation
      as soon as the training has its checkpoint. It is written as ``interrupted_iter_N.pth``, unless there is one of the same
      iteration, and removed after the next regular one. The exit status is 128 + the number of the signal, 130 or 143 (1 from
      torchrun, which reports the failed process in place of its status). A second signal stops at once.
    - In several processes a checkpoint has the mean of their statistics of batch norm (:func:`average_buffers`).
    - A training that resumes first makes the validation which is due after the iterations that it has, if that did not end.

    Files that are not on a local disk are written as MMEngine does.

    Args:
        *args: those of ``CheckpointHook``.
        **kwargs: those of ``CheckpointHook``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.file_backend: Any
        self._signals = StopSignals()
        self._saved_iteration = -1
        self._interrupted: str | None = None  # the file of a signal, from which this training resumed
        self._outdated: list[str] = []
        self._trains = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        meta = checkpoint.get('meta', {})
        self._outdated, self._interrupted = meta.get(_OUTDATED, []), meta.get(_INTERRUPTED)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # If the training is killed before it removes them, it does so when it resumes.
        checkpoint['meta'][_OUTDATED] = [osp.basename(path) for path in self._outdated]

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if type(self.file_backend) is LocalBackend:
            self.file_backend, self.backend_args = AtomicLocalBackend(), dict(backend='atomic_local')
            if is_main_process():
                self._remove_leftovers(resumed=runner.iter > 0)
        self._trains = True
        self._signals.listen()
        keep_workers(runner.train_dataloader)
        if runner.val_loop is not None:
            keep_workers(runner.val_loop.dataloader)
            if _validation_is_due(runner):
                runner.logger.info('The validation after the last iteration did not end: it is made again.')
                runner.val_loop.run()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        received = self._signals.agreed()
        # The end of an epoch has its own checkpoint; gradients that wait for the next iterations are in none.
        last = _by_epoch(runner) and batch_idx + 1 == len(runner.train_dataloader)
        if received and not last and runner.optim_wrapper.should_update():
            self._stop(runner, received, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def after_train_epoch(self, runner: Runner) -> None:
        super().after_train_epoch(runner)
        if _by_epoch(runner) and (received := self._signals.agreed()):
            self._stop(runner, received, dict(epoch=runner.epoch + 1, iter=runner.iter))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._signals.received and self._saved_iteration == runner.iter:
            self._exit(runner, self._signals.received)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        if self._trains:  # runner.iter would build the training set for a validation alone
            runner.message_hub.update_info(_VALIDATED, runner.iter)
        super().after_val_epoch(runner, metrics)
        if received := self._signals.agreed():
            self._stop(runner, received, dict(epoch=runner.epoch, iter=runner.iter))

    def after_train(self, runner: Runner) -> None:
        self._trains = False
        self._signals.ignore()
        super().after_train(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._saving(runner):
            super()._save_checkpoint_with_step(runner, step, meta)
        self._saved_iteration = meta['iter']

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._saving(runner):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _saving(self, runner: Runner) -> Iterator[None]:
        """Averages the buffers, removes outdated checkpoints last, and says what is left where one could not be written."""
        average_buffers(runner)
        if not isinstance(self.file_backend, AtomicLocalBackend):
            yield
            return
        try:
            with self.file_backend.removing_last() as self._outdated:
                if self._interrupted:
                    self._outdated.append(osp.join(self.out_dir, self._interrupted))
                    self._interrupted = None
                yield
        except CheckpointNotSavedError:
            raise
        except OSError as error:
            free = shutil.disk_usage(self.out_dir).free / 1e6
            raise CheckpointNotSavedError(
                error.errno,
                f'the checkpoint after iteration {runner.iter} was not saved: {error.strerror} ({free:.0f} MB are free). No '
                'earlier checkpoint was removed; make room, and go on from the last one with --resume',
                self.out_dir,
            ) from error

    def _stop(self, runner: Runner, received: int, meta: dict) -> None:
        if self._saved_iteration != meta['iter']:
            name = f'interrupted_iter_{meta["iter"]}.pth'
            with self._saving(runner):
                runner.save_checkpoint(
                    self.out_dir,
                    name,
                    self.file_client_args,
                    save_optimizer=self.save_optimizer,
                    save_param_scheduler=self.save_param_scheduler,
                    meta={**meta, _INTERRUPTED: name},
                    backend_args=self.backend_args,
                )
            if is_main_process():
                with atomic_file(Path(runner.work_dir, 'last_checkpoint')) as file:  # for MMEngine's own tools
                    file.write(osp.join(self.out_dir, name))
        self._exit(runner, received)

    @staticmethod
    def _exit(runner: Runner, received: int) -> None:
        barrier()  # torchrun stops all processes when one ends, and the first may still be writing
        runner.logger.info(
            f'{signal.Signals(received).name}: the training has stopped, and its checkpoint is saved; --resume goes on from it'
        )
        raise SystemExit(128 + received)

    def _remove_leftovers(self, resumed: bool) -> None:
        """Removes the files that a kill left: unfinished ones and, where the training resumed, those that were outdated."""
        # Names without folders, since a checkpoint may come from anywhere.
        outdated = [
            Path(self.out_dir, osp.basename(name)) for name in self._outdated if resumed and name.endswith('.pth')
        ]
        for path in [*unfinished_files(self.out_dir, '*.pth'), *outdated]:
            path.unlink(missing_ok=True)


class CheckpointNotSavedError(OSError):
    """A checkpoint could not be written; the message says why, and what is left."""


def _by_epoch(runner: Runner) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def _validation_is_due(runner: Runner) -> bool:
    """Whether a training that resumes has yet to make the validation of the iterations that it has."""
    loop = runner.train_loop
    if runner.iter == 0 or runner.message_hub.runtime_info.get(_VALIDATED) == runner.iter:
        return False
    loop._decide_current_val_interval()
    if not _by_epoch(runner):
        done, end = loop.iter, loop.max_iters
    elif loop.iter == loop.epoch * len(loop.dataloader):
        done, end = loop.epoch, loop.max_epochs
    else:
        return False  # within an epoch
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == end)
