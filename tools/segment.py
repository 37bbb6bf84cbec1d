"""Counts the objects in images and draws them: each in a colour of its own, beside the input.

::

    python tools/segment.py image.png                               # nuclei, by the model in the package
    python tools/segment.py images/*.tif --out work_dirs/drawings   # work_dirs/drawings/NAME_instances.png
    python tools/segment.py a/1.tif b/1.tif --out work_dirs         # work_dirs/a/1.tif_instances.png, work_dirs/b/..
    python tools/segment.py image.png --config CONFIG --checkpoint CHECKPOINT
"""

import argparse
from collections import Counter
from os.path import abspath, commonpath
from pathlib import Path

import mmcv

from mmseg_instancenet.apis import init_model, segment_image
from mmseg_instancenet.models import BoundarySegmentor
from mmseg_instancenet.visualization import OutputPaths, draw_instances, panel, read_for_display


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', nargs='+', type=Path, metavar='IMAGE', help='image file')
    parser.add_argument('--model', help='name of a shipped model; nuclei unless given')
    parser.add_argument('--config', help='config file, in place of a shipped model')
    parser.add_argument('--checkpoint', help='checkpoint file for --config')
    parser.add_argument(
        '--out', type=Path, default=Path(), help='folder for the drawings; the current one unless given'
    )
    parser.add_argument('--device', default='cpu', help="'cpu' unless given, or 'cuda:0'")
    args = parser.parse_args()
    if (args.config is None) != (args.checkpoint is None):
        parser.error('expected --config and --checkpoint together, got one of them')
    if args.config and args.model:
        parser.error('expected --model or --config, got both')
    missing = [str(path) for path in args.images if not path.is_file()]
    if missing:
        parser.error(f'expected image files, got what is no file: {", ".join(missing)}')
    twice = [flat_name(path) for path, count in Counter(map(Path.resolve, args.images)).items() if count > 1]
    if twice:
        parser.error(f'expected each image once, got several for {", ".join(twice)}')
    return args


def flat_name(image: Path) -> str:
    return f'{image.stem}_instances.png'


def drawings_of(images: list[Path], out: Path) -> list[Path]:
    """The files to write, all in one folder if the names of the images allow it."""
    names = [flat_name(image) for image in images]
    if len(set(names)) == len(names):
        return [out / name for name in names]
    paths = OutputPaths(out, commonpath([abspath(image.parent) for image in images]), ending='_instances.png')
    return [paths.of(image) for image in images]


def main() -> None:
    args = parse_args()
    try:
        model = init_model(args.config or args.model or 'nuclei', args.checkpoint, device=args.device)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error
    if isinstance(model, BoundarySegmentor):
        raise SystemExit(f'expected a model that finds objects, got one that finds boundaries: {args.config}')
    for path, drawing in zip(args.images, drawings_of(args.images, args.out), strict=True):
        try:
            image_HW3 = read_for_display(path)
        except ValueError as error:
            raise SystemExit(str(error)) from error
        result = segment_image(model, path)
        count = len(result.pred_instances)
        print(f'{path}: {count} objects', flush=True)
        drawn_HW3 = draw_instances(image_HW3, result.pred_instance_map.data[0].cpu().numpy())
        both = panel([image_HW3, drawn_HW3], ['input', f'{count} objects'], height=max(256, len(image_HW3)))
        mmcv.imwrite(both[..., ::-1], str(drawing))


if __name__ == '__main__':
    main()
