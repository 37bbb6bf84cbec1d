"""Interrupted trainings

Each training has a hundred iterations on digits: five epochs with a checkpoint each, and a validation after every second epoch,
on one thread of a processor. After the fault it is started again with `--resume`. 'The same' means that weights and state of the
optimizer equal those of a training without a fault, bit for bit.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from programs import REPOSITORY

from mmseg_instancenet.engine import damage, latest_whole_checkpoint, load_weights_only
from mmseg_instancenet.outputs.atomic_file import unfinished_files

from .rows import Row
from .trainings import EPOCHS, Run, Training, same, write_data

BY_ITERATION = [
    'train_cfg._delete_=True', 'train_cfg.type=ResumableIterLoop', 'train_cfg.max_iters=100', 'train_cfg.val_interval=40',
    'train_dataloader.sampler.type=InfiniteSampler', 'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=20', 'param_scheduler.1.by_epoch=False', 'param_scheduler.1.T_max=100',
    'param_scheduler.1.convert_to_iter_based=False', 'log_processor.by_epoch=False',
]  # fmt: skip
SAME = 'resumed; ends with the same weights'


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        trials = _Trials(Path(folder))
        return [
            trials.killed('`kill -9` at a random moment', 10, trials.random_moment),
            trials.killed('`kill -9` while a checkpoint is written', 6, trials.while_writing),
            trials.killed('`kill -9` in a validation', 2, trials.while_validating),
            trials.killed(
                '`kill -9` at a random moment, two workers read the images', 2, trials.random_moment,
                'train_dataloader.num_workers=2',
            ),
            trials.killed(
                '`kill -9` at a random moment, `ResumableIterLoop`', 2, trials.random_moment, *BY_ITERATION, last='iter_100.pth'
            ),
            trials.stopped('SIGTERM within an epoch', 3, signal.SIGTERM),
            trials.stopped(
                'SIGINT within an epoch, to two workers as well (ctrl-C)', 3, signal.SIGINT, 'train_dataloader.num_workers=2'
            ),
            trials.stopped('SIGTERM in a validation', 2, signal.SIGTERM, moment=trials.while_validating),
            trials.damaged('last checkpoint cut off at a random place', 5, _cut),
            trials.damaged('one bit of the last checkpoint flipped', 5, _flip),
            trials.full_disk(),
            trials.failed_validation(),
        ]  # fmt: skip


class _Trials:
    """The trials of one run of this module, and the training without a fault that they are compared with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.random, self.number = folder, random.Random(0), 0
        self.data = write_data(folder / 'data')
        self.without_fault: dict[tuple[str, ...], dict] = {}
        start = time.monotonic()
        self.expected()
        self.seconds = time.monotonic() - start

    def training(self, *options: str, last: str = f'epoch_{EPOCHS}.pth') -> Training:
        self.number += 1
        return Training(self.data, self.folder / f'training_{self.number}', list(options), last)

    def expected(self, *options: str, **last: str) -> dict:
        """The last checkpoint of a training without a fault; the number of workers makes no difference."""
        key = tuple(option for option in options if 'num_workers' not in option)
        if key not in self.without_fault:
            self.without_fault[key] = self.training(*key, **last).finish()
        return self.without_fault[key]

    def killed(
        self, fault: str, tried: int, moment: Callable[[Run, Training], bool], *options: str, **last: str
    ) -> Row:
        expected, kept = self.expected(*options, **last), 0
        for _ in range(tried):
            training = self.interrupt(moment, signal.SIGKILL, *options, **last)[0]
            kept += same(training.finish('--resume'), expected) and not unfinished_files(training.work_dir, '*.pth')
            shutil.rmtree(training.work_dir)
        return Row(fault, tried, kept, SAME)

    def stopped(
        self,
        fault: str,
        tried: int,
        number: signal.Signals,
        *options: str,
        moment: Callable[[Run, Training], bool] | None = None,
    ) -> Row:
        expected, kept = self.expected(*options), 0
        for _ in range(tried):
            training, status = self.interrupt(moment or self.random_iteration, number, *options)
            kept += (
                status == 128 + number
                and _saved_iterations(training) == training.output().count('Epoch(train)')
                and same(training.finish('--resume'), expected)
                and not list(training.work_dir.glob('interrupted_iter_*.pth'))
            )
            shutil.rmtree(training.work_dir)
        return Row(fault, tried, kept, f'exit status {128 + number}, a checkpoint of the last iteration; {SAME}')

    def damaged(self, fault: str, tried: int, damages: Callable[[Path, random.Random], None]) -> Row:
        """Damages the last checkpoint of a training that was stopped after three epochs."""
        stopped, kept = self.training('train_cfg.max_epochs=3'), 0
        stopped.start().wait()
        for _ in range(tried):
            training = self.training()
            shutil.copytree(stopped.work_dir, training.work_dir)
            damages(training.work_dir / 'epoch_3.pth', self.random)
            run = training.start('--resume')
            run.wait_for('resumed epoch')
            run.send(signal.SIGKILL)
            run.wait()
            kept += 'resumed epoch: 2' in run.output() and 'epoch_3.pth is damaged' in run.output()
            shutil.rmtree(training.work_dir)
        return Row(fault, tried, kept, 'named, and resumed from the checkpoint before')

    def interrupt(
        self, moment: Callable[[Run, Training], bool], number: signal.Signals, *options: str, **last: str
    ) -> tuple[Training, int]:
        """Starts trainings until a signal has hit one, and returns it with its exit status."""
        while True:
            training = self.training(*options, **last)
            run = training.start()
            if moment(run, training):
                run.send(number, group=number == signal.SIGINT)
                status = run.wait()
                if status != 0:
                    return training, status
            run.wait()
            shutil.rmtree(training.work_dir)

    # The moments, each of which returns whether the training still runs.

    def random_moment(self, run: Run, training: Training) -> bool:
        end = time.monotonic() + self.seconds * self.random.uniform(0.1, 0.95)
        return run.wait(lambda: time.monotonic() >= end) is None

    def random_iteration(self, run: Run, training: Training) -> bool:
        epoch, part = self.random.randrange(1, EPOCHS), self.random.random()
        run.wait_for(f'Saving checkpoint at {epoch} epochs')
        end = time.monotonic() + part * self.seconds / EPOCHS / 3
        return run.wait(lambda: time.monotonic() >= end) is None

    def while_writing(self, run: Run, training: Training) -> bool:
        epoch = self.random.randrange(1, EPOCHS + 1)
        return run.wait(lambda: bool(unfinished_files(training.work_dir, f'*{epoch}.pth'))) is None

    def while_validating(self, run: Run, training: Training) -> bool:
        return run.wait_for('Epoch(val)') is None

    def full_disk(self) -> Row:
        """A disk with room for two checkpoints and a half."""
        tried, kept, expected = 2, 0, self.expected()
        for _ in range(tried):
            probe = self.training('train_cfg.max_epochs=1')
            probe.start().wait()
            size = (probe.work_dir / 'epoch_1.pth').stat().st_size
            training = self.training()
            disk = training.work_dir.with_suffix('.disk')
            for folder in (disk, training.work_dir):
                folder.mkdir()
            # A file system in memory, mounted for this process alone, so that no rights of an administrator are needed.
            script = f'mount -t tmpfs -o size={int(2.7 * size)} none {disk} && "$@"; status=$?; '
            script += f'cp -r {disk}/. {training.work_dir}; exit $status'
            command = training.command(work_dir=disk)
            result = subprocess.run(
                ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', script, 'sh', sys.executable, *command],
                cwd=REPOSITORY, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'},
            )  # fmt: skip
            left = list(training.work_dir.glob('*.pth'))
            kept += (
                result.returncode == 1
                and 'was not saved: No space left on device' in result.stderr
                and 'epoch_1.pth' in (path.name for path in left)
                and not any(map(damage, left))
                and not unfinished_files(training.work_dir, '*.pth')
                and same(training.finish('--resume'), expected)
            )
        outcome = f'exit status 1, the message says so; no earlier checkpoint is lost; {SAME}'
        return Row('disk full while a checkpoint is written', tried, kept, outcome)

    def failed_validation(self) -> Row:
        """An image of the validation that is gone, until the training is started again."""
        training, expected = self.training(), self.expected()
        image = self.data / 'val' / '00003.png'
        away = image.with_suffix('.away')
        run = training.start()
        run.wait_for('Saving checkpoint at 1 epochs')
        image.rename(away)
        status = run.wait()
        named = image.name in run.output()
        away.rename(image)
        kept = status == 1 and named and (training.work_dir / 'epoch_2.pth').exists()
        kept = kept and same(training.finish('--resume'), expected)
        again = 'it is made again' in run.output()  # both starts write one log
        outcome = f'exit status 1, the image named, no epoch lost; the validation is made again; {SAME}'
        return Row('image of the validation gone while a training runs', 1, int(kept and again), outcome)


def _saved_iterations(training: Training) -> int:
    """Number of iterations of the checkpoint from which a training would resume."""
    file, _ = latest_whole_checkpoint(training.work_dir)
    return load_weights_only(file)['meta']['iter'] if file else 0


def _cut(path: Path, random: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: random.randrange(len(data))])


def _flip(path: Path, random: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)
