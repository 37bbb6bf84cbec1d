"""Turns annotations of LabelMe, one json an image, into one COCO json.

::

    python tools/convert/labelme_to_coco.py data/leaves --out data/leaves/train.json --dry-run
    python tools/convert/labelme_to_coco.py data/leaves --out data/leaves/train.json

Polygons, rectangles, circles and masks are objects, of the class of their label. Shapes with one label and one ``group_id`` are
the pieces of one object. Shapes of the label ``void`` are ignored in training and evaluation. The images stay where they are; the
json names them relative to its own folder, so a data set takes ``data_root='data/leaves/'`` and ``data_prefix=dict(img='')``.

Exit status: 1 if something cannot be converted; all of it is listed, and nothing is written.
"""

import argparse
from pathlib import Path

from mmseg_instancenet.apis.coco_output import add_output_arguments, write_coco
from mmseg_instancenet.datasets.drawn_shapes import ShapeFaults, coco_content, read_labelme


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='folder with the json files of LabelMe, also in subfolders')
    add_output_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    faults = ShapeFaults()
    try:
        images = read_labelme(args.folder, faults)
    except FileNotFoundError as error:
        raise SystemExit(error) from error
    if faults.report():
        raise SystemExit(f'{faults.report()}\n{args.out} is not written: correct these files')
    write_coco(coco_content(images), args.out, args.dry_run)


if __name__ == '__main__':
    main()
