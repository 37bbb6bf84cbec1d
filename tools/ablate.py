"""Trains and tests several configs with several seeds, and writes a table of mean, spread and difference to the first config.

::

    python tools/ablate.py --configs configs/instancenet_digits.py configs/recurrent-embedding_digits.py --seeds 0 1 2 \\
        --out work_dirs/losses
    python tools/ablate.py --configs A.py B.py --seeds 0 1 2 3 4 --out work_dirs/losses     # trains the seeds 3 and 4 only
    python tools/ablate.py --configs A.py B.py --seeds 0 1 --out FOLDER --metric coco/segm_mAP mIoU --jobs 2
    python tools/ablate.py --configs A.py B.py --seeds 0 1 --out FOLDER --cfg-options train_cfg.max_epochs=20

Each run is a training by tools/train.py and a test of its last checkpoint by tools/test.py, in processes of their own, in
FOLDER/CONFIG/seed_SEED: config.py (what is trained, complete), log.txt, train/, test/, and run.json, which is written last.

The same command again does the rest: a run with its run.json is not started again, an interrupted one goes on from its last
checkpoint. A run that fails is reported with the end of its log, the others go on, and the exit status is 1. A config whose
settings have changed since its runs began is refused.

After each run the table is written to FOLDER: ablation.md, ablation.csv, and ablation.json with the metrics of every run. It has
the configs of the command and all of their seeds in FOLDER. docs/ablations.md has an example. Linux and macOS.
"""

import argparse
import copy
import csv
import fcntl
import json
import math
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TextIO

import mmcv
import mmdet
import mmengine
import mmseg
import torch
from mmengine.config import Config, DictAction
from mmengine.runner import find_latest_checkpoint

import mmseg_instancenet
from mmseg_instancenet.analysis.ablation import (
    METHOD,
    config_differences,
    effective_settings,
    markdown_table,
    summarize,
    table_columns,
)
from mmseg_instancenet.apis.command_line import load_config

ROOT = Path(__file__).resolve().parents[1]
LINES_OF_LOG = 15


class RunFailed(Exception):
    """With the reason and the end of the log as its text."""


class Run(NamedTuple):
    """A config with one seed, and its folder."""

    config: str
    seed: int
    folder: Path

    def __str__(self) -> str:
        return f'{self.config} seed {self.seed}'

    @property
    def record(self) -> Path:
        return self.folder / 'run.json'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--configs', nargs='+', required=True, help='config files; the first is the baseline')
    parser.add_argument('--seeds', nargs='+', type=int, required=True, help='seeds of the trainings, from 0')
    parser.add_argument('--out', type=Path, required=True, help='folder for runs and table')
    parser.add_argument(
        '--metric',
        nargs='+',
        help='metrics of the table, for example coco/segm_mAP; unless given, all that the tests measured',
    )
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time; with several GPUs they take turns')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help="settings in place of those of every config, as in train.py's",
    )
    args = parser.parse_args()
    for option, values in (('--configs', [Path(path).stem for path in args.configs]), ('--seeds', args.seeds)):
        if len(set(values)) < len(values):
            parser.error(f'{option}: expected different names or numbers, got {" ".join(map(str, values))}')
    if min(args.seeds) < 0 or args.jobs < 1:
        parser.error(f'expected seeds of at least 0 and --jobs of at least 1, got {args.seeds} and {args.jobs}')
    return args


def main() -> None:
    args = parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # as Ctrl-C: the processes of the runs end too
    configs = {Path(path).stem: prepare_config(path, args.cfg_options) for path in args.configs}
    # Seed by seed: all configs can be compared as soon as the first seed is done.
    runs = [Run(name, seed, args.out / name / f'seed_{seed}') for seed in args.seeds for name in configs]
    for name, config in configs.items():
        for folder in sorted((args.out / name).glob('seed_*')):
            check_same_settings(folder / 'config.py', config)
    left = [run for run in runs if not run.record.exists()]
    print(f'{len(runs)} runs in {args.out}, {len(runs) - len(left)} of them are done already', flush=True)
    failed: dict[Run, str] = {}
    jobs = Jobs(args.jobs)
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(jobs.carry_out, run, configs[run.config]): run for run in left}
        try:
            for count, future in enumerate(as_completed(futures), 1):
                run = futures[future]
                try:
                    minutes = future.result()
                except RunFailed as error:
                    failed[run] = str(error)
                    print(f'[{count}/{len(left)}] {run} failed: {error}', flush=True)
                else:
                    print(f'[{count}/{len(left)}] {run}: trained in {minutes:.1f} minutes', flush=True)
                write_tables(args, configs, failed)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            jobs.stop()
            raise
    unknown = write_tables(args, configs, failed)
    print(f'\n{(args.out / "ablation.md").read_text()}\n{args.out / "ablation.md"}')
    problems = [f'{len(failed)} of {len(runs)} runs failed: {", ".join(map(str, failed))}'] if failed else []
    problems += [f'--metric {metric}: no run has it; they have {", ".join(there)}' for metric, there in unknown.items()]
    if problems:
        raise SystemExit('\n'.join(problems))


def prepare_config(path: str, cfg_options: dict | None) -> Config:
    """Loads a config with the options of the command; its work dir and seed are those of a run."""
    return load_config(argparse.Namespace(config=path, cfg_options=cfg_options))


def with_seed(config: Config, seed: int) -> Config:
    changed = copy.deepcopy(config)
    changed.merge_from_dict({'randomness.seed': seed})
    return changed


def check_same_settings(stored: Path, config: Config) -> None:
    """Raises SystemExit if a run in the folder of ``stored`` began with other settings than ``config`` has now."""
    if not stored.exists():
        return
    before = Config.fromfile(stored)
    now = with_seed(config, before.randomness.seed)
    different = config_differences(effective_settings(before), effective_settings(now))
    if different:
        raise SystemExit(
            f'{stored.parent}: expected the settings with which this run began, got others: {", ".join(show(different))}. '
            f'Take another --out, or remove {stored.parent.parent}'
        )


def show(differences: dict[str, tuple[Any, Any]]) -> list[str]:
    return [f'`{name}`: {before!r} -> {after!r}' for name, (before, after) in differences.items()]


class Jobs:
    """Carries out runs in processes, and can stop them.

    Args:
        count: of runs at a time. They take turns at the GPUs that CUDA_VISIBLE_DEVICES names, or else at all.
    """

    def __init__(self, count: int) -> None:
        named = os.environ.get('CUDA_VISIBLE_DEVICES')
        gpus = named.split(',') if named else [str(index) for index in range(torch.cuda.device_count())]
        self._gpus: queue.Queue[str | None] = queue.Queue()
        for index in range(count):
            self._gpus.put(gpus[index % len(gpus)] if gpus else None)
        self._processes: set[subprocess.Popen] = set()
        self._stopped = threading.Event()
        self._dumping = threading.Lock()  # MMEngine formats the file by yapf, which is not made for several threads

    def carry_out(self, run: Run, config: Config) -> float:
        """Trains and tests; returns the minutes of the training, or raises RunFailed."""
        run.folder.mkdir(parents=True, exist_ok=True)
        gpu = self._gpus.get()
        try:
            with locked_log(run) as log:
                if not (run.folder / 'config.py').exists():
                    temporary = run.folder / 'new_config.py'
                    with self._dumping:
                        with_seed(config, run.seed).dump(temporary)
                    os.replace(temporary, run.folder / 'config.py')
                starts = [*read_starts(run), dict(commit=commit(), versions=versions())]
                write_json(starts, run.folder / 'starts.json')
                train, test = run.folder / 'train', run.folder / 'test'
                self._call(run, log, gpu, ['train.py', run.folder / 'config.py', '--work-dir', train, '--resume'])
                checkpoint = find_latest_checkpoint(str(train))
                if checkpoint is None:
                    raise RunFailed(f'the training left no checkpoint in {train}: see default_hooks.checkpoint')
                self._call(run, log, gpu, ['test.py', run.folder / 'config.py', checkpoint, '--work-dir', test])
            minutes = training_minutes(train)
            record = dict(config=run.config, seed=run.seed, metrics=read_metrics(test), minutes=minutes, starts=starts)
            write_json(record, run.record)
            return minutes
        finally:
            self._gpus.put(gpu)

    def _call(self, run: Run, log: TextIO, gpu: str | None, arguments: Sequence[str | Path]) -> None:
        if self._stopped.is_set():
            raise RunFailed('stopped')
        tool, *rest = map(str, arguments)
        status = self.execute([sys.executable, str(ROOT / 'tools' / tool), *rest], log, gpu)
        if status:
            lines = Path(log.name).read_text(errors='replace').splitlines()[-LINES_OF_LOG:]
            raise RunFailed(f'tools/{tool} ended with status {status}, the end of {log.name}:\n  ' + '\n  '.join(lines))

    def execute(self, command: list[str], log: TextIO, gpu: str | None) -> int:
        """Runs a command with its output in ``log``; returns its exit status."""
        environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': gpu} if gpu is not None else None
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self._processes.add(process)
        try:
            return process.wait()
        finally:
            self._processes.discard(process)

    def stop(self) -> None:
        self._stopped.set()
        for process in list(self._processes):
            process.terminate()


@contextmanager
def locked_log(run: Run) -> Iterator[TextIO]:
    """Opens the log of a run for more lines. One process at a time has it, with the processes that write to it: a training
    whose ablate.py was killed may still be at work, and a second one in its folder would destroy both."""
    with (run.folder / 'log.txt').open('a') as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFailed(f'another process is at work in {run.folder}: wait for its end, or end it') from error
        yield log


def read_starts(run: Run) -> list[dict]:
    path = run.folder / 'starts.json'
    return json.loads(path.read_text()) if path.exists() else []


def write_json(content: Any, path: Path) -> None:
    """Writes a file as a whole or not at all."""
    temporary = path.with_name(f'{path.name}.new')
    temporary.write_text(json.dumps(content, indent=1))
    os.replace(temporary, path)


def training_minutes(work_dir: Path) -> float:
    """The time from the start of MMEngine's runner to the last line of its log, summed over all starts of a training."""
    seconds = 0.0
    for log in work_dir.glob('*/*.log'):
        seconds += max(log.stat().st_mtime - time.mktime(time.strptime(log.stem, '%Y%m%d_%H%M%S')), 0)
    return seconds / 60


def read_metrics(work_dir: Path) -> dict[str, float]:
    """The numbers that the last test measured, without NaN, the value of a metric of no image. Curves are left out, and so is
    the time of an iteration."""
    *_, last = sorted(work_dir.glob('*/*.json'))
    metrics = json.loads(last.read_text())
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not math.isnan(value) and name not in ('time', 'data_time')
    }


def commit() -> str | None:
    """The commit of the repository that this file is in; ``None`` for a copy without one."""

    def git(*arguments: str) -> str | None:
        try:
            process = subprocess.run(['git', '-C', str(ROOT), *arguments], capture_output=True, text=True)
        except FileNotFoundError:
            return None
        return process.stdout.strip() if process.returncode == 0 else None

    top, name = git('rev-parse', '--show-toplevel'), git('rev-parse', '--short=10', 'HEAD')
    if (
        name is None or top is None or Path(top).resolve() != ROOT
    ):  # an installed copy may lie in someone else's repository
        return None
    return f'{name} with changes' if git('status', '--porcelain', '--untracked-files=no') else name


def versions() -> dict[str, str]:
    packages = (torch, mmengine, mmcv, mmdet, mmseg, mmseg_instancenet)
    return {
        'Python': platform.python_version(),
        **{package.__name__: str(package.__version__) for package in packages},
        'device': torch.cuda.get_device_name(0) if torch.cuda.is_available() else f'CPU {platform.machine()}',
    }


def write_tables(args: argparse.Namespace, configs: dict[str, Config], failed: dict[Run, str]) -> dict[str, list[str]]:
    """Writes ablation.md, ablation.csv and ablation.json.

    Returns:
        the metrics of ``--metric`` that no run has, each with the names that there are; empty as long as there is no run.
    """
    records = {name: read_records(args.out / name) for name in configs}
    metrics_of = {name: {seed: one['metrics'] for seed, one in of_seed.items()} for name, of_seed in records.items()}
    there = list(dict.fromkeys(name for of in metrics_of.values() for metrics in of.values() for name in metrics))
    rows = summarize(metrics_of, args.metric or there)
    minutes = {name: fmean(one['minutes'] for one in of.values()) for name, of in records.items() if of}
    settings = {name: effective_settings(with_seed(config, 0)) for name, config in configs.items()}
    baseline = next(iter(configs))
    differences = {name: config_differences(settings[baseline], settings[name]) for name in configs}
    notes = {}
    for path, name in zip(args.configs, configs, strict=True):
        lines = [f'{path}; seeds {", ".join(map(str, records[name])) or "none"}']
        if name != baseline:
            lines += [f'settings that differ from `{baseline}`: {len(differences[name])}']
            lines += [f'  {line}' for line in show(differences[name])]
        starts = [start for one in records[name].values() for start in one['starts']]
        lines += [f'commit {text}' for text in dict.fromkeys(start['commit'] or 'unknown' for start in starts)]
        lines += dict.fromkeys(
            ', '.join(f'{key} {value}' for key, value in start['versions'].items()) for start in starts
        )
        lines += [
            f'seed {seed} was started {len(one["starts"])} times: on a GPU, a resumed training may give other metrics'
            for seed, one in records[name].items()
            if len(one['starts']) > 1
        ]
        lines += [f'seed {run.seed} failed' for run in failed if run.config == name]
        notes[name] = lines
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'ablation.md').write_text(markdown_table(rows, minutes, notes))
    columns = [table_columns(row, minutes.get(row.config)) for row in rows]
    with (args.out / 'ablation.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, list(columns[0]) if columns else [])
        writer.writeheader()
        writer.writerows(columns)
    write_json(
        dict(
            baseline=baseline,
            method=METHOD,
            rows=columns,
            configs={
                name: dict(file=path, differences=differences[name], runs=list(records[name].values()))
                for path, name in zip(args.configs, configs, strict=True)
            },
            failed={str(run): reason for run, reason in failed.items()},
        ),
        args.out / 'ablation.json',
    )
    return {name: there for name in args.metric or [] if there and name not in there}


def read_records(folder: Path) -> dict[int, dict]:
    """The records of the runs of a config that are done, by seed."""
    records = [json.loads(path.read_text()) for path in folder.glob('seed_*/run.json')]
    return {record['seed']: record for record in sorted(records, key=lambda record: record['seed'])}


if __name__ == '__main__':
    main()
