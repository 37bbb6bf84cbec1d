"""A prediction over many files, killed three times.

`tools/predict.py` with the model `nuclei` over images of 64 x 64 pixels, cut from the example image. One in a hundred is broken:
empty, cut off, a text, or it vanishes after the program has listed it. The program is killed (-9) three times, at a random moment
after a fifth, two fifths and three fifths of the files, and started again. Afterwards every good file must have been done, once:
what was done before a kill must not have been written again, and tables, label images and drawings must be those of a run over
the good files that was not killed. Every broken file must be named.

::

    PYTHONPATH=tests python -m faults many_files
"""

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2

from mmseg_instancenet.apis.tuned_settings import file_sha256

from .rows import Row

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / 'mmseg_instancenet/shipped_models/nuclei_example.png'
SIDE = 64
KILLS = 3
ENVIRONMENT = {
    **os.environ,
    'OMP_NUM_THREADS': '1',
    # The package beside these tests, wherever another one is installed.
    'PYTHONPATH': os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get('PYTHONPATH')])]),
}
"""Of the programs that are tried."""


def rows() -> list[Row]:
    return rows_of_killed_prediction(5000, 50)


def rows_of_killed_prediction(num_files: int, num_broken: int) -> list[Row]:
    """Kills a prediction three times.

    Args:
        num_files: of which some are broken.
        num_broken: at least 4; an equal number of each kind.
    """
    with tempfile.TemporaryDirectory() as name:
        images, out, whole = Path(name, 'images'), Path(name, 'killed'), Path(name, 'whole')
        good, broken, vanishing = write_images(images, num_files, num_broken)
        draw = random.Random(18)
        done: dict[str, int] = {}
        rewritten = 0
        for kill in range(1, KILLS + 1):
            process = predict(images, out)
            _wait_for_records(process, out, num_files * kill // 5)
            time.sleep(draw.uniform(0, 0.3))
            process.kill()
            process.wait()
            now = records(out)
            rewritten += sum(now.get(record) != written for record, written in done.items())
            done = now
        process = predict(images, out)
        _wait_for_records(process, out, len(done) + 1)
        for file in vanishing:
            (images / file).unlink()
        errors = process.communicate()[1]
        now = records(out)
        rewritten += sum(now.get(record) != written for record, written in done.items())
        for file in broken:
            (images / file).unlink(missing_ok=True)
        if predict(images, whole).wait():
            raise RuntimeError('the run over the good files failed')
        equal = contents(out) == contents(whole)
        named = {row['image']: row['error'] for row in _table(out / 'failed.csv')}
        counted = Counter(row['image'] for row in _table(out / 'images.csv'))
        once = sum(counted[file] == 1 for file in good)
        in_table = sum(file in named and file in named[file] and file in errors for file in broken)
    start = f'prediction over {num_files:,} files, killed (-9) {KILLS} times: '
    kept = max(0, len(done) - rewritten)
    return [
        Row(
            start + 'good files',
            len(good),
            once if equal else 0,
            f'done once, with the results of a run that was not killed{_but(equal)}',
        ),
        Row(
            start + 'broken files',
            len(broken),
            in_table if set(named) == set(broken) else 0,
            f'named in failed.csv and on the screen, exit status {process.returncode}',
        ),
        Row(start + 'files done before a kill', len(done), kept, 'not done again'),
    ]


def write_images(folder: Path, num_files: int, num_broken: int) -> tuple[list[str], list[str], list[str]]:
    """Writes the images; returns the names of the good ones, of the broken ones, and of those among these that are to vanish.

    Files to vanish are among the last tenth, which the last start comes to when they have vanished.
    """
    folder.mkdir()
    draw = random.Random(0)
    example = cv2.imread(str(EXAMPLE))
    names = [f'{number:05d}.png' for number in range(num_files)]
    for name in names:
        top, left = draw.randrange(example.shape[0] - SIDE), draw.randrange(example.shape[1] - SIDE)
        cv2.imwrite(str(folder / name), example[top : top + SIDE, left : left + SIDE])
    share = num_broken // 4
    vanishing = draw.sample(names[-num_files // 10 :], num_broken - 3 * share)
    others = draw.sample(sorted(set(names) - set(vanishing)), 3 * share)
    for number, name in enumerate(others):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes((b'', content[: len(content) // 2], b'no image\n')[number // share])
    broken = sorted(others + vanishing)
    return sorted(set(names) - set(broken)), broken, vanishing


def predict(images: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, 'tools/predict.py', 'nuclei', str(images), '--out', str(out), '--device', 'cpu']
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def records(out: Path) -> dict[str, int]:
    """The images that are done, and when their records were written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / 'records/images').glob('*.jsonl')}


def contents(out: Path) -> dict[str, str]:
    """The checksums of all tables, label images and drawings."""
    files = [
        path for path in out.rglob('*') if path.is_file() and 'records' not in path.parts and path.suffix != '.part'
    ]
    return {str(path.relative_to(out)): file_sha256(path) for path in files if path.name != 'failed.csv'}


def _wait_for_records(process: subprocess.Popen, out: Path, count: int) -> None:
    folder = out / 'records/images'
    while not folder.is_dir() or sum(name.endswith('.jsonl') for name in os.listdir(folder)) < count:
        if process.poll() is not None:
            raise RuntimeError(f'the prediction ended before {count} files: {process.communicate()[1][-2000:]}')
        time.sleep(0.02)


def _table(path: Path) -> list[dict]:
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def _but(equal: bool) -> str:
    return '' if equal else ': tables, label images or drawings differ'
