"""Turns a folder of images and a folder of masks into a COCO json, for programs that read no label images.

::

    python tools/convert/label_images_to_coco.py data/my_images --out data/my_images/all.json --dry-run
    python tools/convert/label_images_to_coco.py data/my_images --mask-suffix _masks --ignore-label 255 --out all.json

This package trains on the folders themselves: docs/your_images.md, which also describes the layouts. Unlabelled regions become
annotations of the category ``void``. The images stay where they are; the json names them relative to its own folder.

Exit status: 1 if a mask is refused; all faults are listed, and nothing is written.
"""

import argparse
from pathlib import Path

from mmseg_instancenet.apis.coco_output import add_output_arguments, write_coco
from mmseg_instancenet.datasets.annotations import Decision
from mmseg_instancenet.datasets.label_images import LabelFolder, convert_folder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='folder that holds the folders of images and of masks')
    parser.add_argument('--images', default='images', help='folder of the images below it')
    parser.add_argument('--masks', default='masks', help='folder of the masks below it')
    parser.add_argument('--mask-suffix', default='', help='end of the names of the masks, such as _masks')
    parser.add_argument('--ignore-label', type=int, help='value of unlabelled regions, such as 255')
    parser.add_argument('--class-name', default='object', help='name of the only class')
    parser.add_argument('--classes-from', help="'folders' for masks/CLASS/NAME.png, or a csv below the folder")
    add_output_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    table = args.classes_from not in (None, 'folders')
    try:
        content, findings = convert_folder(
            LabelFolder(
                str(args.root / args.images),
                str(args.root / args.masks),
                args.mask_suffix,
                args.ignore_label,
                (args.class_name,) if args.classes_from is None else (),
                str(args.root / args.classes_from) if table else args.classes_from,
            )
        )
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(error) from error
    for decision in (Decision.WARNED, Decision.REFUSED):
        if findings.report(decision):
            print(findings.report(decision))
    if findings.of(Decision.REFUSED):
        raise SystemExit(f'{args.out} is not written: correct these masks, or leave out their images')
    for image in content['images']:
        image['file_name'] = str(args.root / args.images / image['file_name'])
    write_coco(content, args.out, args.dry_run)


if __name__ == '__main__':
    main()
