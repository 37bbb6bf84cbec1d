"""Finds the objects in images and writes them as drawings, label images and tables, or in the formats of other programs.

::

    python tools/predict.py nuclei image.png --out results                   # a model of the package
    python tools/predict.py work_dirs/my_run images --out results            # a training's best checkpoint, a folder of images
    python tools/predict.py CONFIG 'plates/**/*.tif' --checkpoint CHECKPOINT --out results
    python tools/predict.py nuclei images --out results --formats csv rois geojson --pixel-size 0.325
    python tools/predict.py nuclei slides/*.tif --out results --tile 1024    # memory of 1024 x 1024 pixels, not of the image
    torchrun --nproc-per-node 4 tools/predict.py nuclei images --out results # four processes share the images

docs/predict.md has the formats. An image that cannot be read is named and left out, the others are done, and the exit status
is 1. The same command again goes on where the first one stopped, and tries images that failed once more.

Several processes, of ``torchrun`` or of slurm's ``srun``, on one machine or on several that share the folder, share the images
out among themselves; the files are those of one process.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from os.path import abspath, commonpath
from pathlib import Path
from pickle import UnpicklingError

import torch
from mmengine.config import DictAction
from mmengine.utils import ProgressBar

from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.apis import list_images
from mmseg_instancenet.apis.tuned_settings import file_sha256
from mmseg_instancenet.outputs import (
    DEFAULT_FORMATS,
    DEFAULT_MARGIN,
    FORMATS,
    PredictionFolder,
    remove_predictions,
    tile_spans,
)

FEW = 20
"""Up to so many images each gets a line with its count; more get a bar with the time that is left."""

STEPS = 200
"""Steps of the bar, at most: a log file keeps every one."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='name of a shipped model, folder of a training, or config file')
    parser.add_argument('images', nargs='+', metavar='INPUT', help='image file, folder of images, or pattern in quotes')
    parser.add_argument('--out', type=Path, required=True, help='folder for the results')
    parser.add_argument('--checkpoint', help="in place of the shipped weights or of the training's best checkpoint")
    parser.add_argument('--formats', nargs='+', choices=FORMATS, default=DEFAULT_FORMATS, help='which files to write')
    parser.add_argument('--label-ending', choices=['.png', '.tif'], default='.png', help='of the label images')
    parser.add_argument('--pixel-size', type=float, help='edge of a pixel in micrometres, for tables in physical units')
    parser.add_argument('--tile', type=int, help='greatest side of the parts in which an image is segmented, in pixels')
    parser.add_argument('--batch-size', type=int, default=1, help='images of one size that the network gets at once')
    parser.add_argument('--device', help='cpu, cuda:0, ..; a GPU unless given, where there is one')
    parser.add_argument(
        '--amp', action='store_true', help='network in mixed precision, for speed (docs/performance.md)'
    )
    parser.add_argument('--overwrite', action='store_true', help='remove the results in the folder and begin again')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help="settings in place of the config's: key=value"
    )
    args = parser.parse_args()
    for option in ('tile', 'batch_size'):
        value = getattr(args, option)
        if value is not None and value < 1:
            parser.error(f'--{option.replace("_", "-")}: expected at least 1, got {value}')
    return args


def main() -> None:
    args = parse_args()
    rank, world_size = process_number()
    try:
        if args.tile is not None:
            tile_spans(args.tile, args.tile, DEFAULT_MARGIN)  # ValueError for a tile that is too small
        images = [str(image) for image in list_images(args.images)]
        device = device_of(args.device, rank)
        inferencer = InstanceInferencer(args.model, args.checkpoint, device, args.cfg_options, args.amp)
        if args.overwrite:
            if world_size > 1:
                raise ValueError('--overwrite: expected one process, got several: begin in another folder')
            remove_predictions(args.out)
        folder = PredictionFolder(
            args.out,
            images,
            image_folder=commonpath([Path(abspath(image)).parent for image in images]),
            class_names=inferencer.class_names,
            settings=settings_of(inferencer, args),
            formats=args.formats,
            label_ending=args.label_ending,
            pixel_size=args.pixel_size,
        )
    except (FileNotFoundError, ImportError, UnpicklingError, ValueError) as error:
        raise SystemExit(str(error)) from error
    mine = images[rank::world_size]
    failed = write_results(inferencer, folder, mine, args)
    for line in failed:
        print(line, file=sys.stderr)
    missing = len(folder.missing())
    if missing:
        print(f'{args.out}: the other processes have {missing} images to do; the last one writes the tables')
    else:
        num_failed = folder.finish()
        print(f'{args.out}: results' + (f'; failed.csv names {num_failed} images that failed' if num_failed else ''))
    raise SystemExit(bool(failed))


def process_number() -> tuple[int, int]:
    """The number of this process and of all, of torchrun or of slurm; 0 and 1 for a process alone."""
    # srun sets the number of tasks of its step. SLURM_NTASKS is also set in a batch script, which is one process.
    for rank, world_size in (('RANK', 'WORLD_SIZE'), ('SLURM_PROCID', 'SLURM_STEP_NUM_TASKS')):
        if rank in os.environ and world_size in os.environ:
            return int(os.environ[rank]), int(os.environ[world_size])
    return 0, 1


def device_of(device: str | None, rank: int) -> str | None:
    """The device of a process: each of several on a machine takes a GPU of its own."""
    if device is not None:
        return device
    local_rank = int(os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', rank)))
    return f'cuda:{local_rank % torch.cuda.device_count()}' if torch.cuda.is_available() else None


def settings_of(inferencer: InstanceInferencer, args: argparse.Namespace) -> dict:
    """All that the results depend on besides the images."""
    file = Path(inferencer.checkpoint)
    weights = file_sha256(file) if file.is_file() else inferencer.checkpoint
    config = hashlib.sha256(inferencer.cfg.pretty_text.encode()).hexdigest()
    precision = str(inferencer.network_type)
    return {'model': args.model, 'config': config, 'weights': weights, 'tile': args.tile, 'precision': precision}


def write_results(
    inferencer: InstanceInferencer, folder: PredictionFolder, images: Sequence[str], args: argparse.Namespace
) -> list[str]:
    """Writes the files of the images that are not done yet; returns a line for each that failed."""
    todo = [image for image in images if not folder.is_done(image)]
    if len(todo) < len(images):
        print(f'{len(images) - len(todo)} of {len(images)} images are done already')
    failed = []
    bar = ProgressBar(len(todo), file=sys.stdout) if len(todo) > FEW else None
    images_a_step = -(-len(todo) // STEPS)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if bar is not None and (done % images_a_step == 0 or done == len(todo)):
            bar.update(done - bar.completed)

    def fail(image: str, error: Exception) -> None:
        folder.fail(image, error)
        failed.append(str(error) if image in str(error) else f'{image}: {error}')
        advance()

    for result in inferencer.stream(todo, args.batch_size, args.tile, on_error=fail):
        try:
            folder.write(result)
        except (OSError, ValueError) as error:
            fail(result.path, error)
            continue
        if bar is None:
            print(f'{result.path}: {len(result)} objects', flush=True)
        advance()
    if bar is not None:
        print()
    return failed


if __name__ == '__main__':
    main()
