"""Digits in two processes.

`make demo`'s training of digits by one process, and by two through `tools/dist_train.sh`, which share each batch of eight images;
on CPUs, connected by gloo.

::

    PYTHONPATH=tests python -m faults digits_in_two_processes
"""

import json
import tempfile
from pathlib import Path

from .processes import start
from .rows import Row

CONFIG = 'configs/instancenet_digits.py'
BATCH = 8
"""Images of an iteration in the config."""
LARGEST_DIFFERENCE = 0.02
HOUR = 3600


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        one = _average_precision(Path(name, 'one'), 'python', 'tools/train.py', CONFIG)
        half = ('--cfg-options', f'train_dataloader.batch_size={BATCH // 2}')
        two = _average_precision(Path(name, 'two'), 'bash', 'tools/dist_train.sh', CONFIG, '2', *half)
    return [
        Row(
            'A training of six epochs, seed 0, by one process and by two',
            1,
            int(abs(one - two) <= LARGEST_DIFFERENCE),
            f'AP {one:.3f} by one and {two:.3f} by two: within {LARGEST_DIFFERENCE}',
        )
    ]


def _average_precision(work_dir: Path, *command: str) -> float:
    """AP of the last validation of a training."""
    done = start(work_dir, *command, '--amp', '--work-dir', work_dir, seconds=HOUR)
    if done.returncode:
        raise RuntimeError(f'{command}: exit status {done.returncode}\n{done.stdout[-2000:]}')
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    values = [json.loads(line).get('coco/segm_mAP') for line in log.read_text('utf-8').splitlines()]
    return [value for value in values if value is not None][-1]
