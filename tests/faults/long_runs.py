"""Long runs.

The resident memory of a process, its open files and the processes below it, after 200 pieces of its work and after 2,000: a
training of digits (images of 32 x 32, two worker processes that start anew each epoch, a validation and a checkpoint every fourth
epoch), `InstanceInferencer` and `tools/predict.py` with the model `nuclei` on images of 64 x 64. Memory may rise by 12 kB an
iteration or prediction, the size of one image of 32 x 32 as the network gets it; open files and processes not at all. The last
rows are a prediction that is killed; one of 5,000 files has a section of its own.

::

    PYTHONPATH=tests python -m faults long_runs
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from process_size import ProcessSize, sizes_at

from mmseg_instancenet.datasets.digits import write_digits

from .many_files import ENVIRONMENT, REPOSITORY, predict, rows_of_killed_prediction, write_images
from .rows import Row

EARLY, LATE = 200, 2000
MOST_BYTES_EACH = 12 * 1024
_EPOCH = 45
"""Iterations of an epoch: 200 and 2,000 are both its twentieth, after the first validation and after the eleventh."""

_CONFIG = """
_base_ = {base!r}
small = dict(type='mmdet.Resize', scale=(32, 32))
train_pipeline = [*_base_.train_pipeline[:2], small, *_base_.train_pipeline[2:]]
workers = dict(num_workers=2, persistent_workers=False)
images = dict(data_root={data!r}, pipeline=train_pipeline)
train_dataloader = dict(batch_size=2, **workers, dataset=images)
val_dataloader = dict(batch_size=4, **workers, dataset=dict(data_root={data!r}))
test_dataloader = val_dataloader
model = dict(backbone=dict(base_channels=4), decode_head=dict(in_channels=4, channels=8))
train_cfg = dict(max_epochs={epochs}, val_interval=4)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=4))
"""
_INFERENCE = """
import sys
from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.apis import list_images
inferencer = InstanceInferencer('nuclei', device='cpu')
with open(sys.argv[2], 'w') as file:
    for result in inferencer.stream(list_images(sys.argv[1])):
        print(len(result), file=file, flush=True)
"""


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / 'images', LATE + 300, 0)
        tried = [
            ('training of digits, iterations', training_sizes(folder)),
            ('InstanceInferencer, images', inferencer_sizes(folder)),
            ('tools/predict.py, images', prediction_sizes(folder)),
        ]
    rows = [row for name, (early, late) in tried for row in rows_of_sizes(name, early, late)]
    return rows + rows_of_killed_prediction(300, 8)


def rows_of_sizes(name: str, early: ProcessSize, late: ProcessSize) -> list[Row]:
    memory = f'{early.resident / 2**20:.1f} MiB after {EARLY}, {late.resident / 2**20:.1f} MiB after {LATE:,}'
    grown = late.resident - early.resident > MOST_BYTES_EACH * (LATE - EARLY)
    files = f'{early.files} open files after {EARLY}, {late.files} after {LATE:,}'
    processes = f'{early.processes} processes below it after {EARLY}, {late.processes} after {LATE:,}'
    more = late.files > early.files or late.processes > early.processes
    return [
        Row(f'{name}: memory', LATE, 0 if grown else LATE, memory),
        Row(f'{name}: open files and processes', LATE, 0 if more else LATE, f'{files}; {processes}'),
    ]


def training_sizes(folder: Path) -> list[ProcessSize]:
    """The sizes of ``tools/train.py``, without its workers."""
    write_digits(folder / 'digits', num_train=2 * _EPOCH, num_val=20)
    base = REPOSITORY / 'configs/instancenet_digits.py'
    config = _CONFIG.format(base=str(base), data=str(folder / 'digits'), epochs=LATE // _EPOCH + 2)
    (folder / 'small_digits.py').write_text(config)
    work_dir = folder / 'training'
    command = ['tools/train.py', str(folder / 'small_digits.py'), '--work-dir', str(work_dir)]

    def iterations() -> int:
        logs = list(work_dir.glob('*/vis_data/scalars.json'))
        lines = logs[0].read_text().splitlines() if logs else []
        steps = [json.loads(line) for line in lines if line.endswith('}')]
        return max((entry['step'] for entry in steps if 'loss' in entry), default=0)  # validations count epochs

    return _sizes(folder, iterations, *command)


def inferencer_sizes(folder: Path) -> list[ProcessSize]:
    """The sizes of a program that calls ``InstanceInferencer.stream``."""
    (folder / 'inference.py').write_text(_INFERENCE)
    counts = folder / 'counts.txt'

    def images() -> int:
        return counts.read_text().count('\n') if counts.exists() else 0

    return _sizes(folder, images, str(folder / 'inference.py'), str(folder / 'images'), str(counts))


def prediction_sizes(folder: Path) -> list[ProcessSize]:
    """The sizes of ``tools/predict.py``."""
    records = folder / 'predictions/records/images'

    def images() -> int:
        return sum(name.endswith('.jsonl') for name in os.listdir(records)) if records.is_dir() else 0

    return sizes_at(predict(folder / 'images', folder / 'predictions'), images, (EARLY, LATE))


def _sizes(folder: Path, counter: Callable[[], int], *command: str) -> list[ProcessSize]:
    with open(folder / 'log.txt', 'w') as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=REPOSITORY, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            return sizes_at(process, counter, (EARLY, LATE))
        except RuntimeError as error:
            raise RuntimeError(f'{error}\n{(folder / "log.txt").read_text()[-2000:]}') from error
