"""Several processes.

Two and four processes on CPUs, connected by gloo, as `tools/dist_train.sh` and `tools/dist_test.sh` start them where there is no
GPU. Models of the package share a batch of eight images of 32 x 32 pixels; trainings and tests run on handwritten digits. A
process that dies does so in the middle of a real training; the seconds are those from its death to the end of the command.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from batch_shares import CASES, largest_difference, losses_and_gradients, make_batch, shares_of_rank
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODEL_WRAPPERS, init_default_scope
from phase_training import EPOCHS, KINDS, RESUMED_AFTER, UNTIL, train_in_phases
from programs import REPOSITORY
from several_processes import run_ranks
from untrained_digits import untrained_digits

from mmseg_instancenet.apis.analysis_run import EvaluationRunner, drop_loop_hooks
from mmseg_instancenet.datasets.digits import write_digits
from mmseg_instancenet.engine import register_safe_loaders

from .rows import Row

DIGITS = REPOSITORY / 'configs/instancenet_digits.py'
LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}
STEPS = 5
MINUTE = 60


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = [*_shared_batches(folder), _training_with_an_empty_process(folder), *_deaths(folder)]
        return [*found, *_metrics(folder), *_phases(folder), *_shared_files(folder)]


# The loss and gradients of a batch


def _shared_batches(folder: Path) -> list[Row]:
    found = []
    whole = {(dtype, name): losses_and_gradients(name, dtype) for dtype in LIMITS for name in CASES}
    for count in (2, 4):
        ranks = run_ranks(shares_of_rank, count, folder / f'shares_{count}', list(CASES), list(LIMITS))
        largest = {
            (dtype, name): largest_difference(
                [rank[number][index] for rank in ranks], whole[dtype, name], by_parameter=dtype == torch.float64
            )
            for number, dtype in enumerate(LIMITS)
            for index, name in enumerate(CASES)
        }
        kept = sum(value < LIMITS[dtype] for (dtype, _), value in largest.items())
        worst = [max(value for (of, _), value in largest.items() if of == dtype) for dtype in LIMITS]
        found.append(
            Row(
                f'{count} processes share a batch, {len(CASES)} models in float64 and float32'
                + (', one process without an instance' if count == 4 else ''),
                len(largest),
                kept,
                'losses and gradients of one process with the whole batch; largest relative difference of a loss or of the '
                f'gradient of a parameter {worst[0]:.0e} in float64, of a loss or of the whole gradient {worst[1]:.0e} in '
                'float32',
            )
        )
    return found


def train_on_shares(names: Sequence[str]) -> list[torch.Tensor]:
    """The parameters of each model after some steps in which the second process sees no instance."""
    init_default_scope('mmseg')
    rank = torch.distributed.get_rank()
    found = []
    for name in names:
        torch.manual_seed(0)
        module = CASES[name]()
        wrapper = dict(type='CPUDistributedDataParallel', broadcast_buffers=False)
        model = MODEL_WRAPPERS.build(wrapper, default_args=dict(module=module, device_ids=[rank]))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        images, samples = make_batch(boundaries=name.startswith('Boundary'))
        own = slice(2, 4) if rank == 1 else slice(0, 2)
        for _ in range(STEPS):
            optimizer.zero_grad()
            module.parse_losses(model(images[own], samples[own], mode='loss'))[0].backward()
            optimizer.step()
        found.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    return found


def _training_with_an_empty_process(folder: Path) -> Row:
    first, second = run_ranks(train_on_shares, 2, folder / 'empty', list(CASES))
    equal = sum(torch.equal(a, b) and bool(a.isfinite().all()) for a, b in zip(first, second, strict=True))
    return Row(
        f'{STEPS} steps of AdamW in which one of two processes sees no instance at all',
        len(CASES),
        equal,
        'no process waits, and both have the same finite weights, to the last bit',
    )


# A process dies

FAULTS_OF_RANKS = '''
"""Imported by each process of a training."""

import os
import signal
import time
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

RANK, FOLDER = int(os.environ['RANK']), Path(os.environ['FAULTS'])
(FOLDER / f'process_{RANK}').write_text(str(os.getpid()))
if RANK:
    os.umask(0o077)  # tells by its mode which file another process than the first has made


@HOOKS.register_module()
class DyingRank(Hook):
    def __init__(self, rank, moment, kind):
        self.rank, self.moment, self.kind = rank, moment, kind

    def _die(self, moment, batch):
        if (RANK, moment, batch) != (self.rank, self.moment, 1):
            return
        (FOLDER / 'died').write_text(str(time.time()))
        if self.kind == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError(f'process {RANK} cannot go on')

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self._die('training', batch_idx)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._die('validation', batch_idx)
'''


def _write_config(folder: Path, *hooks: dict) -> Path:
    """Config of a training of one epoch on 32 digits, four to a batch, in ``folder``."""
    (folder / 'faults_of_ranks.py').write_text(FAULTS_OF_RANKS)
    path = folder / f'config_{len(list(folder.glob("config_*")))}.py'
    data = dict(dataset=dict(data_root=f'{folder}/data'))
    widths = dict(backbone=dict(base_channels=4), decode_head=dict(in_channels=4, channels=8))
    path.write_text(
        f"_base_ = '{DIGITS}'\n"
        "custom_imports = dict(imports=['mmseg_instancenet', 'faults_of_ranks'], allow_failed_imports=False)\n"
        f'model = {widths!r}\n'
        f'train_dataloader = {dict(data, batch_size=4)!r}\nval_dataloader = {dict(data, batch_size=2)!r}\n'
        'test_dataloader = val_dataloader\n'
        "val_evaluator = [*_base_.val_evaluator, dict(type='CountingMetric')]\ntest_evaluator = val_evaluator\n"
        'train_cfg = dict(max_epochs=1, val_interval=1)\n'
        f'custom_hooks = [*_base_.custom_hooks, *{list(hooks)!r}]\n'
        "param_scheduler = [{**_base_.param_scheduler[0], 'end': 2}, {**_base_.param_scheduler[1], 'T_max': 1}]\n"
    )
    return path


def start(folder: Path, *command: str | Path, seconds: float = 600) -> subprocess.CompletedProcess:
    """Runs a command of one or several processes on CPUs; its output is standard output and error together.

    folder: of modules that the command may import.
    seconds: after which it is ended.
    """
    environment = dict(
        os.environ, PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}', PORT=str(_free_port()),
        PYTHONPATH=f'{REPOSITORY}:{folder}', FAULTS=str(folder), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='',
    )  # fmt: skip
    return subprocess.run(
        [str(part) for part in command], cwd=REPOSITORY, env=environment, timeout=seconds, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _alive(process: int) -> bool:
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def _deaths(folder: Path) -> list[Row]:
    folder = folder / 'deaths'
    write_digits(folder / 'data', num_train=32, num_val=8)
    found = []
    for fault, kind, message, cases in (
        ('is killed (kill -9)', 'kill', f'Signal {int(signal.SIGKILL)} (SIGKILL)',
         [(1, 'training'), (0, 'training'), (1, 'validation')]),
        ('raises an exception', 'exception', 'RuntimeError: process {rank} cannot go on', [(1, 'training'), (0, 'validation')]),
    ):  # fmt: skip
        kept, seconds, other = 0, [], []
        for rank, moment in cases:
            config = _write_config(folder, dict(type='DyingRank', rank=rank, moment=moment, kind=kind))
            command = ('tools/dist_train.sh', config, '2', '--work-dir', folder / f'{kind}_{rank}_{moment}')
            done = start(folder, 'bash', *command)
            seconds.append(time.time() - float((folder / 'died').read_text()))
            left = [process for process in (0, 1) if _alive(int((folder / f'process_{process}').read_text()))]
            as_promised = done.returncode != 0 and message.format(rank=rank) in done.stdout and not left
            kept += as_promised and seconds[-1] < MINUTE
            if not as_promised:
                other.append(f'process {rank} in {moment}: exit status {done.returncode}, left over {left}')
            (folder / 'died').unlink()
        found.append(
            Row(
                f'One of two processes of `dist_train.sh` {fault}, in training or validation',
                len(cases),
                kept,
                f'the other one is ended, no process is left, the output names the cause ("{message.format(rank="N")}"), and the '
                f'exit status is not 0, after {max(seconds):.0f} s at most' + ''.join(f'; {line}' for line in other),
            )
        )
    return found


# Metrics

IMAGES, FEW = 7, 3
METRICS = [
    dict(type='CocoInstanceMetric', metric=['segm', 'bbox']),
    dict(type='RegionAveragePrecisionMetric', iou_thresholds=(0.3, 0.5)),
    dict(type='ProposalRecallMetric', num_proposals=(1, 5)),
    dict(type='CountingMetric'),
    dict(type='TrimapIoUMetric', max_width=5, reported=(1, 5)),
    dict(type='ForegroundIoUMetric'),
]


def metrics_of_group(folder: Path, cases: Sequence[tuple[int, bool]]) -> list[dict]:
    """Metrics of a test of the first images of a set, for each number of images and ``round_up`` of the sampler."""
    register_safe_loaders()
    found = []
    for number, (count, round_up) in enumerate(cases):
        config = Config.fromfile(folder / 'config.py')
        config.merge_from_dict(
            {
                'test_dataloader.dataset.indices': count,
                'test_dataloader.sampler.round_up': round_up,
                'launcher': 'pytorch',
            }
        )
        config.experiment_name = f'test_{number}'
        runner = EvaluationRunner.from_cfg(config)
        drop_loop_hooks(runner)
        found.append({key: repr(value) for key, value in runner.test().items()})
    return found


def _metrics(folder: Path) -> list[Row]:
    folder = folder / 'metrics'
    folder.mkdir()
    MMLogger.get_current_instance().setLevel('ERROR')  # the first weights of each layer
    config, _ = untrained_digits(str(DIGITS), folder, num_val=IMAGES)
    config.merge_from_dict(
        {
            'model.test_cfg.classes': 'ground_truth',  # without training it finds no digit
            'model.grouper.min_size': 1,
            'test_dataloader.batch_size': 1,
            'test_evaluator': [*METRICS, dict(type='mmdet.CocoMetric', ann_file=f'{folder}/data/val.json', metric='segm',
                                              prefix='mmdet')],
            'work_dir': str(folder / 'runs'),
            'load_from': str(folder / 'untrained.pth'),
            'model_wrapper_cfg': dict(type='CPUDistributedDataParallel', broadcast_buffers=False),
        },
        allow_list_keys=False,
    )  # fmt: skip
    config.dump(folder / 'config.py')
    (of_one,) = run_ranks(metrics_of_group, 1, folder / '1', folder, [(IMAGES, True), (FEW, True)])
    expected = dict(zip((IMAGES, FEW), of_one, strict=True))
    found = []
    for title, count, cases in (
        (
            f'{IMAGES} images among two processes, with and without one image twice',
            2,
            [(IMAGES, True), (IMAGES, False)],
        ),
        (f'{IMAGES} or {FEW} images among four processes', 4, [(IMAGES, True), (FEW, True)]),
        (f'{FEW} images among four processes, of which one has none', 4, [(FEW, False)]),
    ):
        ranks = run_ranks(metrics_of_group, count, folder / f'{count}_{len(found)}', folder, cases)
        different = [
            f'{key} {[values[number].get(key) for values in ranks]} for {value}'
            for number, (images, _) in enumerate(cases)
            for key, value in expected[images].items()
            if any(values[number].get(key) != value for values in ranks)
        ]
        tried = sum(len(expected[images]) for images, _ in cases)
        found.append(
            Row(
                f'A test of {title}',
                tried,
                tried - len(different),
                f'every value of {len(METRICS) + 1} metrics is that of one process, to the last digit, in each process'
                + ''.join(f'; {line}' for line in different[:3]),
            )
        )
    return found


# Trainings in two phases


def _phases(folder: Path) -> list[Row]:
    found = []
    for kind in KINDS:
        # Named by itself, since the group of a second call needs a file of its own.
        first, second = run_ranks(train_in_phases, 2, folder / f'phases_{kind}', folder / f'phases_{kind}', kind)
        equal = 0
        for (frozen_IF, others_IR), of_second in zip(first, second, strict=True):
            same = torch.equal(frozen_IF, of_second[0]) and torch.equal(others_IR, of_second[1])
            moved = bool((frozen_IF[-1] != frozen_IF[0]).any()) and bool((others_IR[-1] != others_IR[0]).any())
            equal += same and moved
        fixed = bool((first[0][0][: UNTIL * 2 + 1] == first[0][0][0]).all())  # two iterations an epoch
        found.append(
            Row(
                f'{kind}: a training of {EPOCHS} epochs in two processes, the second phase from epoch {UNTIL} on, and trainings '
                f'that resume after {", ".join(map(str, RESUMED_AFTER[:-1]))} or {RESUMED_AFTER[-1]} epochs',
                len(first),
                equal if fixed else 0,
                'the weights of both processes are equal before each iteration and at the end, to the last bit'
                + ('' if fixed else '; the frozen part moved in the first phase'),
            )
        )
    return found


# Files


def _made_by_others(folder: Path) -> list[str]:
    """Files below a folder that another process than the first has made; see FAULTS_OF_RANKS."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob('*')
        if path.is_file() and not path.stat().st_mode & 0o044
    )


def _shared_files(folder: Path) -> list[Row]:
    folder = folder / 'files'
    write_digits(folder / 'data', num_train=32, num_val=1)
    for path in (folder / 'data/val.json', *(folder / 'data/val').iterdir()):
        path.unlink()  # 500 images are drawn again
    config, work_dir = _write_config(folder), folder / 'run'
    # After one epoch the network finds no digit by itself.
    options = ('--cfg-options', 'model.test_cfg.classes=ground_truth', 'model.grouper.min_size=1')
    trained = start(
        folder, 'bash', 'tools/dist_train.sh', config, '2', '--work-dir', work_dir, *options,
        'val_dataloader.dataset.indices=9',
    )  # fmt: skip
    files = [path for path in work_dir.rglob('*') if path.is_file()]
    expected = ('epoch_1.pth', 'last_checkpoint', 'loss.png', 'metrics.png', 'val_1_00001', 'val_4_')
    lacking = [name for name in expected if not any(path.name.startswith(name) for path in files)]
    drawn = sum(1 for _ in (folder / 'data/val').glob('*.png'))
    others = [*_made_by_others(folder / 'data'), *_made_by_others(work_dir)]
    kept = trained.returncode == 0 and not lacking and not others and drawn == 500
    problem = f'; exit status {trained.returncode}, not written: {lacking}, by the second process: {others}'
    found = [
        Row(
            'Two processes start a training whose validation set of digits is missing',
            1,
            int(kept),
            f'the first one draws the {drawn} images and writes all {len(files)} files of the run: checkpoints, log, config, '
            'curves and images of the validation' + ('' if kept else problem),
        )
    ]
    out, report, images = folder / 'out.pkl', folder / 'report.html', folder / 'images'
    tested = start(
        folder, 'bash', 'tools/dist_test.sh', config, work_dir / 'epoch_1.pth', '2', '--work-dir', folder / 'test',
        '--out', out, '--report', report, '--show-dir', images, *options, 'test_dataloader.dataset.indices=9',
    )  # fmt: skip
    files = [path for path in (folder / 'test', out, report) if path.exists()]
    others = [name for name in _made_by_others(folder) if not name.startswith('images/')]
    panels = sorted(path.name for path in images.glob('*.png'))
    whole = tested.returncode == 0 and len(files) == 3 and panels == [f'{number:05d}.png' for number in range(1, 10)]
    found.append(
        Row(
            'Two processes test with detections, report and drawings, nine images',
            1,
            int(whole and not others),
            'the first one writes detections, report, metrics and log; each draws its own images, and each image is there once'
            + ('' if whole and not others else f'; exit status {tested.returncode}, {panels}, {others}'),
        )
    )
    validated, of_checkpoint = (
        re.findall(rf'Epoch\({kind}\).*?((?:coco|counting)/.*?)  data_time', done.stdout)[-1:]
        for kind, done in (('val', trained), ('test', tested))
    )
    same = bool(validated) and validated == of_checkpoint and 'SBD: 0.0000' not in validated[0]
    found.append(
        Row(
            'Batch norm is trained in two processes, each of which has the statistics of its own images',
            1,
            int(same),
            'they are averaged: every metric of the validation is that of the checkpoint'
            + ('' if same else f'; {validated} in the validation, {of_checkpoint} of the checkpoint'),
        )
    )
    run = ('python', '-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={_free_port()}')
    refused = 0
    for tool, arguments, line in (
        ('train', (config, '--work-dir', folder / 'twice'), 'torchrun started 2 processes'),
        ('tune', (config, work_dir / 'epoch_1.pth', '--launcher', 'pytorch'), 'unrecognized arguments: --launcher'),
    ):
        done = start(folder, *run, f'tools/{tool}.py', *arguments)
        refused += done.returncode != 0 and line in done.stdout
    written = (folder / 'twice').exists() or (work_dir / 'epoch_1_tuned.json').exists()
    found.append(
        Row(
            '`torchrun` starts tools/train.py in two processes without `--launcher`, or tools/tune.py with it',
            2,
            0 if written else refused,
            'refused with a line that says what to do; nothing is written'
            + ('; files were written' if written else ''),
        )
    )
    return found


def _free_port() -> int:
    with socket.socket() as connection:
        connection.bind(('127.0.0.1', 0))
        return connection.getsockname()[1]
