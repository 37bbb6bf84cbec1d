"""Broken data.

Valid files of 64 x 64 pixels with one random fault each: a flipped bit, bytes that are exchanged, zeroed, taken out or put in,
or a file that is cut off. They are read as in training, testing and prediction, and the values compared with those of the valid
file. "Changed" are values that are others than before, without an error.

What cannot be promised: a fault in values that have no checksum. PNG has one of 32 bits. The checksum of Deflate (Adler-32, in
TIFF and in MATLAB files) is now and then the same for other values. JPEG, LZW and uncompressed pixels have none, and the tags of
a TIFF neither: what still can be decoded is taken for the image.
"""

import csv
import gc
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from image_kinds import write_kinds
from mmengine.registry import init_default_scope
from programs import REPOSITORY, run_program
from torch.utils.data import DataLoader

from mmseg_instancenet.datasets import CocoInstanceDataset
from mmseg_instancenet.datasets.digits import write_digits
from mmseg_instancenet.datasets.transforms import LoadImageFromFile
from mmseg_instancenet.outputs import read_pixels
from mmseg_instancenet.visualization import read_for_display

from .mutations import kinds, try_mutations
from .rows import Row

MUTATIONS = 4000
CHECKSUMS = ('CRC-32', 'Adler-32', 'none')
FORMATS = {
    'CRC-32': 'PNG of 8 and 16 bits, label images, VOC',
    'Adler-32': 'pixels of TIFF with Deflate, label images, SBD and BSDS (MATLAB)',
    'none': 'JPEG, BMP, TIFF with LZW or uncompressed, tags of TIFF',
}


def rows() -> list[Row]:
    init_default_scope('mmseg')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [
            *mutation_rows(0, MUTATIONS),
            json_row(0, 500),
            kinds_row(folder),
            worker_row(folder / 'worker'),
            training_row(folder / 'training'),
            prediction_row(folder / 'prediction'),
        ]


def mutation_rows(first: int, count: int) -> list[Row]:
    """A row for each checksum: the readings of all formats that have it."""
    outcomes, failures = try_mutations(first, count)
    for line in failures[:10]:
        print(line[:300])
    found = []
    for checksum in CHECKSUMS:
        total: Counter[str] = Counter()
        for kind in kinds():
            if kind.checksum == checksum:
                total += outcomes[kind.name]
        tried = sum(total.values())
        wrong = total['failed'] + (total['changed'] if checksum == 'CRC-32' else 0)
        if checksum == 'Adler-32':
            wrong += total['changed'] * (total['changed'] > 0.01 * tried)
        promise = {
            'CRC-32': 'refused with the name of the file, or the values of the valid file',
            'Adler-32': 'refused with the name of the file, or the values of the valid file, but for less than 1 % changed',
            'none': 'refused with the name of the file, or read; no process dies or hangs',
        }[checksum]
        figures = ', '.join(f'{outcome} {total[outcome]:,}' for outcome in ('refused', 'same', 'changed', 'failed'))
        fault = f'a random fault in a file, checksum {checksum}: {FORMATS[checksum]}'
        found.append(Row(fault, tried, tried - wrong, f'{promise}: {figures}'))
    return found


def json_row(first: int, count: int) -> Row:
    """The cases of ``make fuzz``, in their own process."""
    fuzzer = REPOSITORY / 'tests/datasets/annotations/fuzzer.py'
    command = [sys.executable, str(fuzzer), str(count), '--first', str(first)]
    output = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY).stdout
    numbers = {key: int(number) for number, key in re.findall(r'(\d+) (read|mended|left out|refused|failed)', output)}
    kept = sum(number for key, number in numbers.items() if key != 'failed')
    figures = ', '.join(f'{key} {number:,}' for key, number in numbers.items())
    return Row(
        'random faults in a COCO json', count, kept, f'each as a plain reader reads it, or refused by name: {figures}'
    )


def kinds_row(folder: Path) -> Row:
    """Every kind of image against Pillow."""
    tried = kept = 0
    for name, colours_HW3 in write_kinds(folder).items():
        path = str(folder / name)
        measured_HWC = read_pixels(path)
        measured_HWC = measured_HWC[..., :-1] if 'transparent.tif' in name else measured_HWC
        for image in (LoadImageFromFile()({'img_path': path})['img'][..., ::-1], measured_HWC, read_for_display(path)):
            tried += 1
            same = image.shape[:2] == colours_HW3.shape[:2] and np.abs(image.astype(int) - colours_HW3).max() <= 1
            kept += bool(same)
    fault = 'CMYK, grey, palette, transparency, one bit, each EXIF orientation, as JPEG, PNG and TIFF'
    return Row(
        fault, tried, kept, 'the colours that Pillow reads, for network, measurements and drawings, within 1 of 255'
    )


def worker_row(folder: Path, count: int = 5000, times: int = 5) -> Row:
    """One of 5,000 images is unreadable; two worker processes load the set."""
    folder.mkdir()
    content = [cv2.imencode('.png', np.full((64, 64, 3), value, np.uint8))[1].tobytes() for value in range(10)]
    images = [
        {'id': 7 * place + 1, 'file_name': f'{place:04}.png', 'height': 64, 'width': 64} for place in range(count)
    ]
    annotations = [
        {'id': place + 1, 'image_id': image['id'], 'category_id': 1, 'iscrowd': 0, 'area': 8, 'bbox': [0, 0, 4, 4],
         'segmentation': [[0, 0, 4, 0, 4, 4]]}
        for place, image in enumerate(images)
    ]  # fmt: skip
    for place, image in enumerate(images):
        (folder / image['file_name']).write_bytes(content[place % 10])
    (folder / 'a.json').write_text(
        json.dumps({'images': images, 'annotations': annotations, 'categories': [{'id': 1, 'name': 'a'}]})
    )
    settings = dict(ann_file=str(folder / 'a.json'), data_prefix=dict(img=str(folder)), metainfo=dict(classes=('a',)))
    dataset = CocoInstanceDataset(**settings, pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadInstanceMasks')])
    kept = 0
    for place in np.linspace(17, count - 1, times).astype(int):
        path = folder / f'{place:04}.png'
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        kept += f'{path} (image id {7 * place + 1})' in _error_of(dataset)
        path.write_bytes(whole)
        gc.collect()  # the loader of the error: the workers of the next one would inherit it, and complain
    return Row(
        'one unreadable image among 5,000, in a worker process', times, kept, 'the run ends with its path and its id'
    )


def _error_of(dataset: CocoInstanceDataset) -> str:
    try:
        for _ in DataLoader(dataset, 50, num_workers=2, collate_fn=len):
            pass
    except ValueError as error:
        return str(error)
    return ''


def training_row(folder: Path) -> Row:
    """tools/train.py meets an image that was cut off, and one that was removed after the set was opened."""
    write_digits(folder / 'data', num_train=24, num_val=4)
    image = sorted((folder / 'data').rglob('train/*.png') or (folder / 'data').rglob('*.png'))[5]
    whole = image.read_bytes()
    kept = 0
    options = [
        'train_cfg.max_epochs=1',
        'train_dataloader.num_workers=1',
        'model.backbone.base_channels=4',
        'model.decode_head.in_channels=4',
        'model.decode_head.channels=8',
        *(f'{split}_dataloader.dataset.data_root={folder}/data' for split in ('train', 'val')),
    ]
    contents = [whole[: len(whole) // 2], b'', b'no image']
    for number, content in enumerate(contents):
        image.write_bytes(content)
        arguments = ['tools/train.py', 'configs/instancenet_digits.py', '--work-dir', folder / f'run{number}']
        output = run_program(*arguments, '--cfg-options', *options, succeeds=False)
        kept += f'{image} (image id ' in output
    fault = 'an image that is cut off, empty or none, in a training of tools/train.py'
    return Row(fault, len(contents), kept, 'the run ends with its path and its id')


def prediction_row(folder: Path, count: int = 40) -> Row:
    """Images vanish, are cut off or are replaced while tools/predict.py reads their folder."""
    images, out = folder / 'images', folder / 'out'
    images.mkdir(parents=True)
    example = cv2.imread(str(REPOSITORY / 'mmseg_instancenet/shipped_models/nuclei_example.png'))[:64, :64]
    for place in range(count):
        cv2.imwrite(str(images / f'{place:03}.png'), example)
    command = [sys.executable, 'tools/predict.py', 'nuclei', str(images), '--out', str(out), '--device', 'cpu']
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(out.glob('records/images/*')):
        time.sleep(0.05)
    broken = {f'{count - 1 - place:03}.png' for place in range(6)}
    for place, name in enumerate(sorted(broken)):
        content = (images / name).read_bytes()
        if place % 3 == 0:
            (images / name).unlink()
        else:
            (images / name).write_bytes(content[: len(content) // 2] if place % 3 == 1 else b'')
    _, errors = process.communicate(timeout=300)

    def column(table: str) -> set[str]:
        path = out / table
        return {row['image'] for row in csv.DictReader(path.open())} if path.exists() else set()

    every = {f'{place:03}.png' for place in range(count)}
    named = {name for name in every if name in errors}
    wrong = len(column('failed.csv') ^ broken) + len(column('images.csv') ^ (every - broken)) + len(named ^ broken)
    if process.returncode != 1:
        wrong = count
    shutil.rmtree(out)
    fault = 'images that vanish, are cut off or emptied while tools/predict.py reads their folder'
    outcome = f'{len(broken)} broken ones in failed.csv and on the screen, the {count - len(broken)} others done, exit status 1'
    return Row(fault, count, count - min(wrong, count), outcome)
