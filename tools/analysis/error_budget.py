"""Error budget of a checkpoint: how many points of AP and AP* each kind of error costs, with intervals and the worst objects.

::

    python tools/analysis/error_budget.py configs/instancenet_unet_dsb2018.py CHECKPOINT --out work_dirs/budget
    python tools/analysis/error_budget.py CONFIG CHECKPOINT --images 200 --seed 1

The images are those of ``test_dataloader``, with an annotation file (CocoInstanceDataset); the network runs once over them. The
detections are then corrected, one kind of error after the other, by the ground truth. The gain of each correction is the part
of its kind (column "in turn"), and the parts sum up to 1 - AP. The column "alone" has the gain of each correction without the
others; these do not sum up. In brackets: 95 % intervals of a bootstrap over the images.

The corrections, in their order:
    merges      a detection that merges objects is cut along the true borders
    splits      the pieces of an object, and second detections of it, are joined
    classes     a detection gets the class of its object
    invented    detections of no object (IoU below 0.1) are removed
    ranking     scores are replaced by the IoU with the object, here and after each correction below
    missed      objects without a detection are added, as the head's map can hold them
    boundaries  pixels are corrected, but for those that a perfect network of this resolution gets wrong as well
    resolution  these pixels are corrected too, and objects added that the head's map cannot hold

``--out`` gets budget.json with all of it, and worst/: for each kind of error the eight worst objects, as input, ground truth
and detections with a frame around the place; budget.json lists them. docs/error_budget.md explains how to read it.

Settings of the grouping that tools/tune.py has stored beside the checkpoint are used in place of the config's, and are printed.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import mmcv
import torch
from mmdet.structures import DetDataSample
from mmengine.runner import Runner
from terminaltables import AsciiTable

from mmseg_instancenet.analysis.perfect_masks import perfect_masks
from mmseg_instancenet.apis.analysis_run import load_for_analysis, spread
from mmseg_instancenet.apis.command_line import add_common_arguments, load_config_of_checkpoint
from mmseg_instancenet.evaluation.functional.budget_corrections import Fault, TrueObjects
from mmseg_instancenet.evaluation.functional.error_budget import ErrorBudget, Measure, error_budget, image_of_budget
from mmseg_instancenet.evaluation.metrics.mask_metric import ImageMasks, MaskMetric, predicted_map, truth_maps
from mmseg_instancenet.visualization import box_around, draw_crop, read_for_display

WORST = 8
"""Objects of each kind of error that are drawn."""

SEVERITY = {
    'merges': 'objects in the detection',
    'splits': '1 - IoU of the object and its best piece',
    'classes': 'score',
    'invented': 'score',
    'missed': 'area in pixels',
    'ranking': 'difference of score and IoU',
    'boundaries': '1 - IoU',
    'resolution': '1 - IoU',
}
FORMAT = {'merges': '.0f', 'missed': '.0f'}
"""Of the severities that are whole numbers."""

GRADUAL = ('ranking', 'boundaries', 'resolution')
"""Kinds of error that nearly every detection has a little of: those with a severity above 0.5 are counted."""


class Image(NamedTuple):
    """An image that was segmented; ``cells`` is the size of the part of the head's map that lies on it."""

    path: str
    image_id: Any
    size: tuple[int, int]
    cells: tuple[int, int]
    masks: ImageMasks


class KeptMasks(MaskMetric):
    """Keeps the true and the predicted masks of each image."""

    def compare(self, masks: ImageMasks, image_id: Any) -> ImageMasks:
        return masks


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='folder for budget.json and worst/; WORK_DIR/error_budget unless given')
    parser.add_argument('--images', type=int, help='images, evenly spread over the set; all unless given')
    parser.add_argument(
        '--resamples', type=int, default=200, help='data sets that the bootstrap draws; 200 unless given'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the bootstrap')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    for option, value in (('--images', args.images), ('--resamples', args.resamples)):
        if value is not None and value < 1:
            raise SystemExit(f'{option}: expected at least 1, got {value}')
    config = load_config_of_checkpoint(args)
    out = Path(args.out or Path(config.work_dir) / 'error_budget')
    runner = load_for_analysis(config, args.checkpoint)
    try:
        images = segment_images(runner, args.images)
        budget = error_budget([budget_image(image) for image in images], args.resamples, args.seed)
    except ValueError as error:
        raise SystemExit(f'{args.config} with {args.checkpoint}: {error}') from error
    true = sum(len(image.masks.objects_G) for image in images)
    found = sum(len(image.masks.masks_K) for image in images)
    print(f'\n{len(images)} images, {true} objects, {found} detections')
    counts = {kind: count_faults(kind, [fault for _, fault in faults]) for kind, faults in budget.faults.items()}
    for name, measure in budget.measures.items():
        print(f'\n{table(name, measure, counts)}')
    print('\nNumber: errors of this kind when it is their turn; of ranking, boundaries and resolution those above 0.5.')
    report = {
        'config': args.config,
        'checkpoint': args.checkpoint,
        'images': len(images),
        'objects': true,
        'detections': found,
        'resamples': args.resamples,
        'seed': args.seed,
        'measures': {name: as_json(measure) for name, measure in budget.measures.items()},
        'numbers': counts,
        'worst': draw_worst(budget, images, out),
    }
    (out / 'budget.json').write_text(json.dumps(report, indent=1))
    print(f'{out / "budget.json"} written; the worst objects of each kind: {out / "worst"}')


@torch.no_grad()
def segment_images(runner: Runner, count: int | None) -> list[Image]:
    """Runs the test pipeline over the images, or over ``count`` of them."""
    dataloader = runner.build_dataloader(runner.cfg.test_dataloader)
    metric = KeptMasks()
    metainfo = dataloader.dataset.metainfo
    metric.dataset_meta = metainfo if isinstance(metainfo, dict) else metainfo[0]  # joined sets have the same classes
    images = []
    batches = spread(dataloader, count) if count else dataloader
    for number, data in enumerate(batches, 1):
        samples = runner.model.test_step(data)
        for sample in samples:
            if 'pred_instances' not in sample:
                raise ValueError('expected a model that predicts instances, got none in its output')
            metric.process(data, [dict(sample.metainfo, pred_instances=sample.pred_instances)])
            size = tuple(sample.ori_shape[:2])
            images.append(Image(sample.img_path, sample.img_id, size, cells_on_image(sample), metric.results.pop()))
        if number % 50 == 0:
            print(f'{number} of {len(batches)} batches', flush=True)
    return images


def cells_on_image(sample: DetDataSample) -> tuple[int, int]:
    """Size of the head's map where it lies on the image; for windows, the size that their cells would give it."""
    embeddings = sample.pred_embeddings
    height, width = sample.ori_shape[:2]
    top, left, bottom, right = embeddings.image_box
    rows, columns = embeddings.data.shape[-2:]
    return max(1, round(rows * height / (bottom - top))), max(1, round(columns * width / (right - left)))


def budget_image(image: Image) -> tuple:
    masks = image.masks
    drawable = perfect_masks(masks, image.size, image.cells)
    truth = TrueObjects(masks.objects_G, masks.object_labels_G, drawable, masks.crowds_J, masks.crowd_labels_J)
    return image_of_budget(truth, masks.masks_K, masks.scores_K, masks.labels_K)


def count_faults(kind: str, faults: list[Fault]) -> int:
    return sum(fault.severity > 0.5 for fault in faults) if kind in GRADUAL else len(faults)


def table(name: str, measure: Measure, counts: dict[str, int]) -> str:
    def points(value: float, interval: tuple[float, float]) -> str:
        return f'{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]'

    rows = [[name, 'in turn', 'alone', 'number']]
    for kind, part in measure.parts.items():
        in_turn, alone = points(part.in_turn, part.in_turn_interval), points(part.alone, part.alone_interval)
        rows.append([kind, in_turn, alone, str(counts[kind])])
    rows.append(['sum', f'{sum(part.in_turn for part in measure.parts.values()):.3f}', '', ''])
    rows.append([name, points(measure.value, measure.interval), '', ''])
    return AsciiTable(rows).table


def as_json(measure: Measure) -> dict:
    parts = {kind: part._asdict() for kind, part in measure.parts.items()}
    return {'value': measure.value, 'interval': measure.interval, 'parts': parts}


def draw_worst(budget: ErrorBudget, images: list[Image], out: Path) -> dict[str, list[dict]]:
    """Draws the worst objects of each kind; returns for each kind the entries of budget.json."""
    (out / 'worst').mkdir(parents=True, exist_ok=True)
    entries: dict[str, list[dict]] = {}
    for kind, faults in budget.faults.items():
        entries[kind] = []
        for place, (number, fault) in enumerate(faults[:WORST], 1):
            image, (left, top, right, bottom) = images[number], box_around(fault.masks)
            file = Path('worst') / f'{kind}_{place}.png'
            title = f'{kind}: {fault.severity:{FORMAT.get(kind, ".2f")}}'
            maps = {
                'ground truth': truth_maps(image.masks, image.size)[1],
                title: predicted_map(image.masks, image.size),
            }
            drawing = draw_crop(
                read_for_display(image.path),
                maps,
                (left, top, right, bottom),
            )
            mmcv.imwrite(drawing[..., ::-1], str(out / file))
            entries[kind].append(
                {
                    'file': str(file),
                    'image': image.path,
                    'img_id': image.image_id,
                    'box': [left, top, right, bottom],
                    'severity': fault.severity,
                    'severity_is': SEVERITY[kind],
                }
            )
    return entries


if __name__ == '__main__':
    main()
