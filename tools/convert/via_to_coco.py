"""Turns a project of the VGG Image Annotator (VIA 2, or its annotations exported as json) into a COCO json.

::

    python tools/convert/via_to_coco.py data/cells/via_project.json --images data/cells --out data/cells/train.json --dry-run
    python tools/convert/via_to_coco.py via.json --images data/cells --class-attribute type --out data/cells/train.json

VIA exports COCO's format itself, for projects whose regions have one list of classes as attribute. This tool reads any attribute
and checks the result. Polygons, rectangles, circles and ellipses are objects; regions of the class ``void`` are ignored in
training and evaluation. The images stay where they are; the json names them relative to its own folder.

Exit status: 1 if something cannot be converted; all of it is listed, and nothing is written.
"""

import argparse
from pathlib import Path

from mmseg_instancenet.apis.coco_output import add_output_arguments, write_coco
from mmseg_instancenet.datasets.drawn_shapes import ShapeFaults, coco_content, read_via


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('project', type=Path, help='json of VIA')
    parser.add_argument('--images', type=Path, help='folder of the images; that of the json unless given')
    parser.add_argument(
        '--class-attribute', help='attribute of a region that names its class; the only one unless given'
    )
    add_output_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    faults = ShapeFaults()
    try:
        images = read_via(args.project, args.images or args.project.parent, args.class_attribute, faults)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(error) from error
    if faults.report():
        raise SystemExit(f'{faults.report()}\n{args.out} is not written: correct these regions')
    write_coco(coco_content(images), args.out, args.dry_run)


if __name__ == '__main__':
    main()
