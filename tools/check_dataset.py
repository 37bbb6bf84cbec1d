"""Checks annotation files in COCO's format and their images before a training, and counts and measures the objects.

::

    python tools/check_dataset.py configs/instancenet_unet_dsb2018.py
    python tools/check_dataset.py CONFIG --split train --write data/my_set/clean.json
    python tools/check_dataset.py --list-checks

Each annotation file of the config is read once, with every image that it names. The report lists the findings that are
mended, suspicious ("warned") and refused, each with its number and the first example, then the objects, class by class:

    touching     share that touches another object of its class in the image
    on the map   share that has a cell on the map on which the embedding is trained
    apart there  share that has one, and touches no object of its class there that it does not touch in the image

``--write`` writes the file in the normal form, without the annotations that are refused. Any program that reads COCO's format
takes it.

Exit status: 1 if a training would stop, else 0.
"""

import argparse
import gc
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress
from mmseg.registry import DATASETS

from mmseg_instancenet.analysis.training_grids import TrainingGrids, embedding_stride
from mmseg_instancenet.apis.command_line import add_config_options, load_config
from mmseg_instancenet.datasets import CocoInstanceDataset
from mmseg_instancenet.datasets.annotations import decision_table
from mmseg_instancenet.datasets.annotations.whole_check import check_set

SPLITS = ('train', 'val', 'test')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', help='config file')
    parser.add_argument(
        '--split', choices=SPLITS, help='only the data of this dataloader of the config; all unless given'
    )
    parser.add_argument(
        '--write', type=Path, metavar='CLEAN.json', help='file for the normal form of the annotation file'
    )
    parser.add_argument('--list-checks', action='store_true', help='print the table of all checks, and nothing else')
    add_config_options(parser)
    args = parser.parse_args()
    if not args.config and not args.list_checks:
        parser.error('expected a config, or --list-checks')
    return args


def sets_of(dataset: ConfigDict, outer_pipeline: list) -> Iterator[tuple[ConfigDict, list]]:
    """Yields the configs of the data sets that read files, inside wrappers such as ConcatDataset too, each with the
    pipelines of its wrappers."""
    for inner in [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets', []):
        yield from sets_of(inner, [*dataset.get('pipeline', []), *outer_pipeline])
    if not {'dataset', 'datasets'} & set(dataset):
        yield dataset, outer_pipeline


def stride_of(config: Config) -> float | None:
    """The stride of the embeddings; ``None``, with a message, if the network cannot be built: the data can still be
    checked."""
    try:
        return embedding_stride(config.model)
    except Exception as error:  # weights that are not there yet, settings that contradict each other, ..
        print(
            f'Nothing is measured on the map of the embedding: the network was not built: {type(error).__name__} {error}\n'
        )
        return None


def main() -> None:
    args = parse_args()
    if args.list_checks:
        print(decision_table())
        return
    config = load_config(args)
    init_default_scope('mmseg')
    loaders = [config.get(f'{split}_dataloader') for split in ([args.split] if args.split else SPLITS)]
    found = [entry for loader in loaders if loader for entry in sets_of(loader.dataset, [])]
    others = {data.type for data, _ in found if not issubclass(DATASETS.get(data.type) or object, CocoInstanceDataset)}
    for name in sorted(others):
        print(f"{name}: not checked: expected a CocoInstanceDataset, which has an annotation file in COCO's format")
    sets = {}
    for data, outer_pipeline in found:
        if data.type not in others:
            dataset = DATASETS.build({**data, 'lazy_init': True})
            sets.setdefault((dataset.ann_file, str(dataset.data_prefix)), (dataset, outer_pipeline))
    if not sets:
        raise SystemExit("nothing was checked: the config has no data set with an annotation file in COCO's format")
    if args.write and len(sets) > 1:
        raise SystemExit(f'--write: expected one annotation file, got {len(sets)}: choose by --split')
    stride = stride_of(config)
    gc.freeze()  # or Python looks through all that was imported, again and again, while it reads the json
    stops = False
    for dataset, outer_pipeline in sets.values():
        steps = [*dataset.pipeline.transforms, *Compose(outer_pipeline).transforms]
        try:
            report = check_set(
                dataset, stride and TrainingGrids(steps, stride), partial(track_iter_progress, file=sys.stderr)
            )
        except (FileNotFoundError, ValueError) as error:  # ValueError: the csv of the classes has faults
            print(error)
            stops = True
            continue
        print(report)
        stops |= report.stops
        print(f'A training on {dataset.source} {"stops" if report.stops else "does not stop"} at these checks.\n')
        if args.write:
            write(report.content, args.write)
    gc.unfreeze()  # the bindings of other packages report what is still frozen in the end as leaks
    raise SystemExit(int(stops))


def write(content: dict | None, path: Path) -> None:
    """Writes annotations in the normal form to a json file."""
    if content is None:
        raise SystemExit(f'{path} is not written: correct the file, its images or its categories first')
    try:
        text = json.dumps(content, allow_nan=False)
    except ValueError:  # NaN, which is no json, in an entry that is not read, such as a score
        text = json.dumps(json.loads(json.dumps(content), parse_constant=lambda _: None))
    path.write_text(text)
    print(f'{path}: {len(content["images"])} images, {len(content["annotations"])} annotations')


if __name__ == '__main__':
    main()
