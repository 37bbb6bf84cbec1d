"""Untrusted files.

Files from elsewhere, made to run code, to take all memory, or to write where they should not. SECURITY.md says what is trusted.
"""

import io
import json
import logging
import os
import pickle
import resource
import tarfile
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import torch
from image_bombs import BOMBS
from mmengine.registry import init_default_scope
from programs import CONTEXT, run_program
from untrained_digits import untrained_digits

from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.apis import init_model
from mmseg_instancenet.datasets.annotations import read_annotations
from mmseg_instancenet.datasets.transforms import LoadImageFromFile
from mmseg_instancenet.engine import load_weights_only
from mmseg_instancenet.outputs import read_pixels
from mmseg_instancenet.visualization import OutputPaths

from .rows import Row

CONFIG = 'configs/instancenet_digits.py'


class Attack:
    """Unpickled carelessly it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


def rows() -> list[Row]:
    init_default_scope('mmseg')
    logging.disable(logging.INFO)  # of networks that are built
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [
            code_row(folder / 'code'),
            containers_row(folder),
            nesting_row(folder),
            bombs_row(folder),
            names_row(folder / 'names'),
            prediction_names_row(folder / 'prediction'),
        ]


def code_row(folder: Path) -> Row:
    """A pickle with code in it, given to every program and function that reads a checkpoint."""
    folder.mkdir()
    config, options = untrained_digits(CONFIG, folder, num_val=2)
    marker, attack = folder / 'marker', folder / 'attack.pth'
    torch.save({**torch.load(folder / 'untrained.pth', weights_only=True), 'more': Attack(marker)}, attack)
    torch.load(attack, weights_only=False)
    if not marker.exists():
        raise RuntimeError('expected a checkpoint whose code runs when it is loaded carelessly')
    marker.unlink()
    test, work = ['--cfg-options', *options], ['--work-dir', folder / 'run']
    train = [
        *options,
        'train_dataloader.batch_size=1',
        *(f'{split}_dataloader.dataset.data_root={folder}/data' for split in ('train', 'val')),
    ]
    programs = [
        ['tools/train.py', CONFIG, *work, '--cfg-options', *train, f'load_from={attack}'],
        ['tools/train.py', CONFIG, *work, '--resume', attack, '--cfg-options', *train],
        ['tools/test.py', CONFIG, attack, *work, *test],
        ['tools/tune.py', CONFIG, attack, *test],
        ['tools/predict.py', CONFIG, f'{folder}/data/**/*.png', '--checkpoint', attack, '--out', folder / 'out', *test],
        ['tools/export.py', CONFIG, attack, '--out', folder / 'model.onnx', *test],
    ]
    kept = 0
    for program in programs:
        output = run_program(*program, succeeds=False)
        refused = 'attack.pth holds more than weights' in output and not marker.exists()
        kept += refused
        if not refused:
            print(program[0], output[-500:])
    for function in (
        lambda: init_model(config, str(attack), device='cpu'),
        lambda: InstanceInferencer(config, attack, device='cpu'),
        lambda: load_weights_only(attack),
    ):
        try:
            function()
        except pickle.UnpicklingError as error:
            kept += 'attack.pth holds more than weights' in str(error) and not marker.exists()
    fault = 'a checkpoint with code: load_from, --resume, test, tune, predict, export, three functions'
    return Row(fault, len(programs) + 3, kept, 'refused with the name of the file; the code did not run')


def containers_row(folder: Path) -> Row:
    """Tar, TorchScript and a zip that unpacks to more than the file."""
    marker, kept, files = folder / 'marker', 0, ['old.pth', 'program.pth', 'packed.pth']
    with tarfile.open(folder / 'old.pth', 'w:') as archive:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            entry, content = tarfile.TarInfo(name), pickle.dumps(Attack(marker), protocol=2)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(folder / 'program.pth')
    torch.save({'a': torch.zeros(10**7)}, folder / 'whole.pth')
    _pack(folder / 'whole.pth', folder / 'packed.pth')
    for name in files:
        try:
            load_weights_only(folder / name)
        except pickle.UnpicklingError as error:
            kept += f'{name}: expected' in str(error) and not marker.exists()
    return Row(
        'a tar of torch before 2017, a program of TorchScript, a packed checkpoint',
        3,
        kept,
        'refused with the name of the file',
    )


def _pack(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED) as packed:
        for part in whole.namelist():
            packed.writestr(part, whole.read(part))


def nesting_row(folder: Path) -> Row:
    """Annotation files of nested lists."""
    path, kept, depths = folder / 'deep.json', 0, (1000, 10**4, 10**5, 10**6)
    for depth in depths:
        for text in ('%s', '{"images": [], "categories": [], "annotations": %s}'):
            path.write_text(text % ('[' * depth + ']' * depth))
            try:
                read_annotations(path)
            except ValueError as error:
                kept += 'deep.json' in str(error) and 'nested too deeply' in str(error)
    return Row(
        'a COCO json of 1,000 to 1,000,000 nested lists',
        2 * len(depths),
        kept,
        'refused with the name of the file and the limit',
    )


def bombs_row(folder: Path) -> Row:
    """Images of a few bytes that announce 60,000 x 60,000 pixels, in a process with its own peak of memory."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_read_bombs, args=(str(folder), sender))
    process.start()
    sender.close()
    kept, tried, megabytes = receiver.recv()
    process.join()
    if megabytes > 100:
        kept = 0
    fault = f'an image bomb, 60,000 x 60,000 pixels in the header of {", ".join(BOMBS)}, for network and measurements'
    return Row(fault, tried, kept, f'refused, with the limit and how to raise it; memory grew by {megabytes:.0f} MB')


def _read_bombs(folder: str, sender) -> None:
    start, kept, tried = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0, 0
    for ending, make in BOMBS.items():
        path = Path(folder, f'bomb.{ending}')
        path.write_bytes(make(60_000, 60_000))
        for read in (lambda file: LoadImageFromFile()({'img_path': file}), read_pixels):
            tried += 1
            try:
                read(str(path))
            except ValueError as error:
                kept += path.name in str(error) and 'OPENCV_IO_MAX_IMAGE_PIXELS' in str(error)
    sender.send((kept, tried, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024))


def names_row(folder: Path) -> Row:
    """Names of images as an annotation file may have them."""
    paths, parts = (
        OutputPaths(folder / 'out', folder / 'images'),
        ['..', '.', 'a', '...', '~', 'b.png', '-', ' ', 'c\\d', 'ä\n'],
    )
    rng, kept, tried, files = np.random.default_rng(0), 0, 2000, {}
    for _ in range(tried):
        drawn = [parts[place] for place in rng.integers(0, len(parts), rng.integers(1, 7))]
        name = rng.choice(['', '/', '//', '/etc/', '../../../']) + '/'.join(drawn) + '/x.png'
        image = os.path.abspath(folder / 'images' / name)
        file = os.path.abspath(paths.of(image))
        kept += file.startswith(f'{folder}/out/') and files.setdefault(file, image) == image
    return Row(
        'names of images with .., absolute names, names of several folders', tried, kept,
        'each drawing inside of the output folder, and none of two images in one file',
    )  # fmt: skip


def prediction_names_row(folder: Path) -> Row:
    """A test with --show-dir, a drawing of samples and a prediction, of images outside of the folder of images."""
    folder.mkdir()
    _, options = untrained_digits(CONFIG, folder, num_val=2)
    file = folder / 'data/val.json'
    content = json.loads(file.read_text())
    root = file.parent
    first = next(root.rglob(Path(content['images'][0]['file_name']).name))
    image = cv2.imread(str(first))
    outside = [folder / 'outside.png', folder / 'data/above.png']
    for path in outside:
        cv2.imwrite(str(path), image)
    prefix = next(
        parent for parent in first.parents if str(first).endswith(f'{parent.name}/{content["images"][0]["file_name"]}')
    )
    content['images'][0]['file_name'] = os.path.relpath(outside[1], prefix)
    content['images'][1]['file_name'] = str(outside[0])
    file.write_text(json.dumps(content))
    checkpoint, out = folder / 'untrained.pth', folder / 'made'
    programs = [
        [
            'tools/test.py',
            CONFIG,
            checkpoint,
            '--work-dir',
            out / 'run',
            '--show-dir',
            out / 'images',
            '--cfg-options',
            *options,
        ],
        ['tools/browse_dataset.py', CONFIG, '--split', 'test', '--out', out / 'samples', '--cfg-options', *options],
        [
            'tools/predict.py',
            CONFIG,
            *outside,
            '--checkpoint',
            checkpoint,
            '--out',
            out / 'found',
            '--cfg-options',
            *options,
        ],
    ]
    kept = 0
    for program in programs:
        before = _files(folder, out)
        run_program(*program)
        kept += _files(folder, out) == before and bool(list((out / Path(program[0]).stem).parent.rglob('*.png')))
    return Row(
        'a json with "../above.png" and an absolute name: test --show-dir, browse_dataset, predict', len(programs), kept,
        'every file inside of the output folder, all others as before',
    )  # fmt: skip


def _files(folder: Path, out: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob('*') if path.is_file() and out not in path.parents}
