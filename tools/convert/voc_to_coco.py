"""Converts PASCAL VOC 2012, and SBD's masks for more of its images, to COCO json files in which void stays void.

::

    python tools/convert/voc_to_coco.py data/VOCdevkit/VOC2012 --out data/voc2012
    python tools/convert/voc_to_coco.py data/VOCdevkit/VOC2012 --sbd data/benchmark_RELEASE/dataset --out data/voc2012

writes train.json (VOC's train, 1,464 images), val.json (1,449) and, with SBD, train_aug.json: VOC's train and all of SBD
without VOC's val (10,582). Where both have an image, VOC's masks are taken: SBD has no void. The photos stay where
they are; the json files name them relative to their own folder.
"""

import argparse
import json
from pathlib import Path

from mmseg_instancenet.datasets.voc import AnnotatedImage, convert, find_sbd, find_voc

_USUAL = {'train': 1464, 'val': 1449, 'train_aug': 10582}
"""Images of the complete sets."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('voc', type=Path, help='folder with JPEGImages, SegmentationClass, SegmentationObject')
    parser.add_argument('--sbd', type=Path, help='folder with inst/*.mat and img/*.jpg, or with both kinds in one')
    parser.add_argument(
        '--out', type=Path, default=Path('data/voc2012'), help='folder for the json files; data/voc2012'
    )
    return parser.parse_args()


def read_lists(folder: Path, images: dict[str, AnnotatedImage]) -> dict[str, list[str]]:
    """The names of the images of train and val; without VOC's lists all images are in train."""
    lists = folder / 'ImageSets' / 'Segmentation'
    if not lists.is_dir():
        print(f'{lists} is not there: all {len(images)} annotated images of VOC go into train, none into val')
        return {'train': list(images)}
    sets = {}
    for split in ('train', 'val'):
        file = lists / f'{split}.txt'
        if not file.is_file():
            raise FileNotFoundError(
                f'{file} is missing: expected train.txt and val.txt, one name of an image a line, or no folder {lists} at all'
            )
        sets[split] = file.read_text().split()
    for split, names in sets.items():
        missing = [name for name in names if name not in images]
        if missing:
            raise FileNotFoundError(
                f'{lists}/{split}.txt names {len(missing)} images without {folder}/SegmentationClass/*.png; the first is '
                f'{missing[0]}'
            )
    return sets


def main() -> None:
    args = parse_args()
    try:
        voc = find_voc(args.voc)
        lists = read_lists(args.voc, voc)
        sets = {split: [voc[name] for name in names] for split, names in lists.items()}
        if args.sbd:
            train = {name: voc[name] for name in lists['train']}
            more = {name: image for name, image in find_sbd(args.sbd).items() if name not in voc}
            sets['train_aug'] = [image for _, image in sorted({**train, **more}.items())]
        args.out.mkdir(parents=True, exist_ok=True)
        for split, images in sets.items():
            write(split, images, args.out)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(error) from error


def write(split: str, images: list[AnnotatedImage], folder: Path) -> None:
    """Writes one json, and prints a summary of it."""
    content, counts = convert(images, folder)
    file = folder / f'{split}.json'
    file.write_text(json.dumps(content))
    if not images:
        print(f'{file}: no images, as the list of {split} is empty; a training or test stops at this file')
        return
    usual = '' if counts['images'] == _USUAL[split] else f' (of the {_USUAL[split]} of the complete set)'
    print(
        f'{file}: {counts["images"]} images{usual}, {counts["objects"]} objects, '
        f'{100 * counts["void"] / counts["pixels"]:.1f} % void; of it {counts["disagreed"]} pixels on which class map and '
        'object map do not agree'
    )


if __name__ == '__main__':
    main()
