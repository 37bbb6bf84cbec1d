"""Random faults in the bytes of valid files of data sets, and what the readers make of them."""

import io
import os
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tifffile
from PIL import Image
from programs import CONTEXT
from scipy.io import savemat

from mmseg_instancenet.datasets.label_images.mask_files import read_mask
from mmseg_instancenet.datasets.transforms import LoadImageFromFile
from mmseg_instancenet.datasets.transforms.boundaries import read_bsds_boundaries
from mmseg_instancenet.datasets.voc import read_sbd, read_voc
from mmseg_instancenet.outputs import open_windows, read_pixels

SECONDS = 20
"""The longest that one file may take, on a machine that others use too."""

Read = Callable[[Path], np.ndarray]


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: of the files, with their ending.
        content: of a valid one.
        readers: all of the package that read it, of training, testing and prediction.
        checksum: of the values in the format; 'CRC-32', 'Adler-32' or 'none'.
        start: byte from which on it is changed: what comes before has no checksum.
    """

    name: str
    content: bytes
    readers: Sequence[Read]
    checksum: str
    start: int = 0


def load(path: Path) -> np.ndarray:
    """The image of a training, a test and a prediction."""
    return LoadImageFromFile(color_type=3)({'img_path': str(path)})['img']


def load_windows(path: Path) -> np.ndarray:
    """The image of a prediction in tiles."""
    return np.asarray(open_windows(path, LoadImageFromFile(color_type=3))[:, :])


def kinds() -> list[Kind]:
    """Valid files of 64 x 64 pixels, of every format that the readers know."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    colour = cv2.GaussianBlur(noise, (9, 9), 3)
    grey16 = colour[..., 0].astype(np.uint16) * 200
    labels = cv2.resize(noise[:8, :8, 0] % 5, (64, 64), interpolation=cv2.INTER_NEAREST)
    images, whole = (load, read_pixels), (load, read_pixels, load_windows)

    def by_cv(ending: str, image: np.ndarray, *settings: int) -> bytes:
        return cv2.imencode(ending, image, settings)[1].tobytes()

    def tiff(image: np.ndarray, **settings) -> bytes:
        file = io.BytesIO()
        tifffile.imwrite(file, image, **settings)
        return file.getvalue()

    def by_pillow(image: np.ndarray, form: str, **settings) -> bytes:
        file = io.BytesIO()
        palette = image.ndim == 2 and form == 'PNG'
        drawn = Image.fromarray(image)
        if palette:
            drawn = drawn.convert('P')
            drawn.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
            drawn.putdata(image.ravel().tolist())
        drawn.save(file, form, **settings)
        return file.getvalue()

    def mat(content: dict) -> bytes:
        file = io.BytesIO()
        savemat(file, content, do_compression=True)
        return file.getvalue()

    truth = np.empty((1, 2), object)
    for place in range(2):
        truth[0, place] = {'Segmentation': labels.astype(np.uint16), 'Boundaries': (labels == place).astype(np.uint8)}
    sbd = {
        'GTinst': {
            'Segmentation': labels,
            'Boundaries': np.zeros((1, 1)),
            'Categories': np.arange(1, 5, dtype=np.uint8)[:, None],
        }
    }
    return [
        Kind('colour.png', by_cv('.png', colour), images, 'CRC-32'),
        Kind('16-bit.png', by_cv('.png', grey16), images, 'CRC-32'),
        Kind(
            'deflate.tif', tiff(colour, photometric='rgb', compression='zlib', rowsperstrip=16), whole, 'Adler-32', 304
        ),
        Kind('16-bit-tiles.tif', tiff(grey16, compression='zlib', tile=(16, 16)), whole, 'Adler-32', 368),
        Kind('deflate-with-tags.tif', tiff(colour, photometric='rgb', compression='zlib'), whole, 'none'),
        Kind('label-image.png', by_cv('.png', labels.astype(np.uint16)), (read_mask,), 'CRC-32'),
        Kind('label-image.tif', tiff(labels.astype(np.uint16), compression='zlib'), (read_mask,), 'Adler-32', 256),
        Kind('voc.png', by_pillow(labels, 'PNG'), (lambda path: read_voc(path, path).objects,), 'CRC-32'),
        Kind('sbd.mat', mat(sbd), (lambda path: np.stack(read_sbd(path)),), 'Adler-32', 128),
        Kind(
            'bsds.mat',
            mat({'groundTruth': truth}),
            (lambda path: read_bsds_boundaries(path.read_bytes(), str(path)),),
            'Adler-32',
            128,
        ),
        Kind('baseline.jpg', by_cv('.jpg', colour), images, 'none'),
        Kind('progressive.jpg', by_pillow(colour, 'JPEG', progressive=True), images, 'none'),
        Kind('lzw.tif', by_pillow(colour, 'TIFF', compression='tiff_lzw'), whole, 'none'),
        Kind('uncompressed.tif', tiff(colour, photometric='rgb'), whole, 'none'),
        Kind('floating-point.tif', tiff(grey16.astype(np.float32)), whole, 'none'),
        Kind('uncompressed.bmp', by_cv('.bmp', colour), images, 'none'),
    ]


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One fault: a flipped bit, bytes exchanged, zeroed, taken out or put in, or a file that is cut off."""
    at, length = rng.randrange(len(content)), rng.choice([1, 4, 16, 64])
    fault = rng.choice(['flip', 'exchange', 'zero', 'remove', 'insert', 'cut'])
    if fault == 'flip':
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if fault == 'exchange':
        return content[:at] + rng.randbytes(len(content[at : at + length])) + content[at + length :]
    if fault == 'zero':
        return content[:at] + bytes(len(content[at : at + length])) + content[at + length :]
    if fault == 'remove':
        return content[:at] + content[at + length :]
    return content[:at] if fault == 'cut' else content[:at] + rng.randbytes(length) + content[at:]


def judge(read: Read, path: Path, whole: np.ndarray) -> str:
    """'same', 'refused' or 'changed'; 'failed: ..' for an error of another kind, or one without the name of the file."""
    try:
        values = read(path)
    except (ValueError, OSError) as error:
        return 'refused' if path.name in str(error) else f'failed: not named: {error!r}'
    except Exception as error:
        return f'failed: {error!r}'
    return (
        'same'
        if values.shape == whole.shape and np.array_equal(values, whole, equal_nan=values.dtype.kind == 'f')
        else 'changed'
    )


def _work(numbers: range, channel) -> None:
    """Reads one mutated file after the other, each with all readers of its kind, and sends (kind, outcome) of each reading."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the libraries of the formats print their errors
    warnings.simplefilter('ignore')
    all_kinds = kinds()
    with tempfile.TemporaryDirectory() as folder:
        wholes = []
        for kind in all_kinds:
            Path(folder, kind.name).write_bytes(kind.content)
            wholes.append([read(Path(folder, kind.name)) for read in kind.readers])
        channel.send('ready')
        for number in numbers:
            place = number % len(all_kinds)
            kind, path = all_kinds[place], Path(folder, all_kinds[place].name)
            path.write_bytes(kind.content[: kind.start] + mutate(kind.content[kind.start :], random.Random(number)))
            channel.send(
                [(kind.name, judge(read, path, whole)) for read, whole in zip(kind.readers, wholes[place], strict=True)]
            )


def try_mutations(first: int, count: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Reads ``count`` mutated files in a process of its own; one that dies or hangs is found, and the next one goes on.

    Returns:
        for each kind of file the number of readings of each outcome, and a line for each that failed.
    """
    outcomes: dict[str, Counter[str]] = {kind.name: Counter() for kind in kinds()}
    failures = []
    number, end = first, first + count
    while number < end:
        channel, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_work, args=(range(number, end), sender), daemon=True)
        process.start()
        sender.close()
        channel.recv()  # ready
        alive = True
        while number < end and alive:
            try:
                alive = channel.poll(SECONDS)
                readings = (
                    channel.recv() if alive else [(list(outcomes)[number % len(outcomes)], f'failed: > {SECONDS} s')]
                )
            except EOFError:
                process.join()
                alive, readings = (
                    False,
                    [(list(outcomes)[number % len(outcomes)], f'failed: status {process.exitcode}')],
                )
            for name, outcome in readings:
                outcomes[name][outcome.partition(':')[0]] += 1
                if outcome.startswith('failed'):
                    failures.append(f'{number} {name} {outcome}')
            number += 1
        process.kill()
        process.join()
    return outcomes, failures
