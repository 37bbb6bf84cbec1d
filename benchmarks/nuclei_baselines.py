"""Baselines for our model on nuclei: classical methods, connected components, label maps of other programs.

::

    python -m benchmarks.nuclei_baselines --data data/dsb2018                               # the classical rows
    python -m benchmarks.nuclei_baselines --data data/dsb2018 --model CONFIG CHECKPOINT     # and our model's two
    python -m benchmarks.nuclei_baselines --no-classical --labels work_dirs/benchmarks/stardist/labels

Rows, on the images of val.json:

- Otsu, components: the foreground of Otsu's threshold, its holes filled, an object for each 8-connected component;
- Otsu, watershed: the same foreground, split by a watershed of its distance transform;
- true foreground, components: what a perfect class map would give without embeddings;
- our classes, components: the class map of our model without its embeddings, specks dropped as our grouper drops them;
- ours: CONFIG with CHECKPOINT, as ``tools/test.py`` runs it;
- label maps of a folder, by any program: STEM.npz for each image with ``labels`` (H, W), 0 = none, and, where there are any,
  ``scores`` (K,), that of label k at k - 1. ``summary.json`` may hold ``name`` and ``seconds``. See ``stardist_nuclei.py``.

The settings of the two rows with Otsu are chosen on every fourth image of train.json by AP* at .5.

Columns: AP* = TP / (TP + FP + FN) at an IoU of .5 and .75, one to one, pooled over the images; the mean over the images of the
absolute error of the count; both for all images, and for those of fluorescence (no colour, median below 80). AP is COCO's
without its limit of 100 instances an image, on all images; without scores every instance has the score 1. Seconds are CPU time
for all images, without the reading of the files.
"""

import argparse
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmseg.registry import DATASETS
from scipy.ndimage import binary_fill_holes, distance_transform_edt
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.segmentation import watershed

from mmseg_instancenet.analysis.grouping_rows import class_map_pass
from mmseg_instancenet.analysis.tuning import search_settings
from mmseg_instancenet.apis import init_model
from mmseg_instancenet.evaluation import CocoInstanceMetric
from mmseg_instancenet.evaluation.functional.label_overlap import label_overlap, match_objects
from mmseg_instancenet.models import ClassGrouping, EmbeddingSegmentor, SilhouetteScorer
from mmseg_instancenet.models.postprocess import predict_instances
from mmseg_instancenet.structures import labels_to_boxes, labels_to_rle

from .command_line import FOLDER
from .machine import describe_machine

NAME = 'nuclei_baselines'
CLASS = 'nucleus'
DARK = 80
"""Median below which an image without colour is one of fluorescence."""

GRIDS = {
    'blur': (0.0, 0.5, 1.0, 2.0),
    'distance_sigma': (0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
    'min_distance': (2, 3, 4, 5, 7, 10),
    'min_size': (1, 8, 16, 24, 32, 48, 64),
}
"""Values of the settings of :func:`otsu_watershed`, in pixels."""

START = {'blur': 0.5, 'distance_sigma': 2.0, 'min_distance': 5, 'min_size': 16}


class NucleiImage(NamedTuple):
    """An image of nuclei: ``pixels_HWC`` uint8, BGR; ``truth_HW``: -1 = ignored, 0 = background, objects from 1."""

    img_id: int
    stem: str
    pixels_HWC: np.ndarray
    truth_HW: np.ndarray


class Found(NamedTuple):
    """Objects found by a method: label map (H, W), 0 = none, and the score of label k at k - 1; ``None`` for a method
    without scores."""

    labels_HW: np.ndarray
    score_K: np.ndarray | None = None


class Counts(NamedTuple):
    """Counts of one image: objects, and matched pairs at an IoU of .5 and .75."""

    true: int
    predicted: int
    pairs_50: int
    pairs_75: int


class Accuracy(NamedTuple):
    """Accuracy and count error over some images; explained with the columns of the table."""

    accuracy_50: float
    accuracy_75: float
    count_error: float


@dataclass(frozen=True)
class NucleiRow:
    """A row of the table: one method and its results."""

    method: str
    all_images: Accuracy
    fluorescence: Accuracy
    average_precision: float
    seconds: float | None
    note: str = ''


def is_fluorescent(pixels_HWC: np.ndarray) -> bool:
    """Whether an image has no colour and is mostly dark.

    Example:
        >>> is_fluorescent(np.full((2, 2, 3), 79)), is_fluorescent(np.full((2, 2, 3), 80))
        (True, False)
    """
    return bool((pixels_HWC == pixels_HWC[..., :1]).all() and np.median(pixels_HWC[..., 0]) < DARK)


def otsu_foreground(pixels_HWC: np.ndarray, blur: float = 0.0) -> np.ndarray:
    """Foreground by Otsu's threshold: the side with fewer pixels, with its holes filled, (H, W) bool.

    In bright field most pixels are the bright background, and the objects are what is darker.

    Args:
        pixels_HWC: channels are averaged.
        blur: standard deviation of a Gaussian before the threshold, in pixels.

    Example:
        >>> otsu_foreground(np.array([[[9], [9], [1]]]))
        array([[False, False,  True]])
    """
    grey_HW = pixels_HWC.mean(2)
    if grey_HW.min() == grey_HW.max():
        return np.zeros(grey_HW.shape, bool)
    if blur > 0:
        grey_HW = gaussian(grey_HW, blur)
    bright_HW = grey_HW > threshold_otsu(grey_HW)
    return binary_fill_holes(~bright_HW if bright_HW.mean() > 0.5 else bright_HW)


def components(foreground_HW: np.ndarray, min_size: int = 1) -> np.ndarray:
    """Labels the 8-connected components of at least ``min_size`` pixels, from 1: (H, W).

    Example:
        >>> components(np.array([[1, 0, 0, 1], [0, 1, 0, 0]]), min_size=2)
        array([[1, 0, 0, 0],
               [0, 1, 0, 0]])
    """
    return _drop_small(label(foreground_HW, connectivity=2), min_size)


def distance_watershed(
    foreground_HW: np.ndarray, distance_sigma: float, min_distance: int, min_size: int = 1
) -> np.ndarray:
    """Separates touching objects in a foreground by a watershed on the distance to the background.

    Args:
        distance_sigma: standard deviation of a Gaussian on the distances, in pixels.
        min_distance: of two peaks of a component, in pixels.
        min_size: objects of fewer pixels are dropped.

    Returns:
        (H, W) labels from 1; each component has at least one.
    """
    distance_HW = distance_transform_edt(foreground_HW)
    if distance_sigma > 0:
        distance_HW = gaussian(distance_HW, distance_sigma)
    component_HW = label(foreground_HW, connectivity=2)
    peaks = peak_local_max(distance_HW, min_distance=min_distance, labels=component_HW, exclude_border=False)
    marker_HW = np.zeros(foreground_HW.shape, int)
    marker_HW[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels_HW = watershed(-distance_HW, marker_HW, mask=foreground_HW, connectivity=2)
    return _drop_small(labels_HW, min_size)


def _drop_small(labels_HW: np.ndarray, min_size: int) -> np.ndarray:
    size_K = np.bincount(labels_HW.reshape(-1))
    return np.where(size_K[labels_HW] >= min_size, labels_HW, 0)


def otsu_components(pixels_HWC: np.ndarray, blur: float, min_size: int) -> np.ndarray:
    return components(otsu_foreground(pixels_HWC, blur), min_size)


def otsu_watershed(
    pixels_HWC: np.ndarray, blur: float, distance_sigma: float, min_distance: int, min_size: int
) -> np.ndarray:
    return distance_watershed(otsu_foreground(pixels_HWC, blur), distance_sigma, min_distance, min_size)


def count_pairs(truth_HW: np.ndarray, labels_HW: np.ndarray) -> Counts:
    """Counts the objects of one image and their matched pairs; see :func:`match_objects`."""
    overlap = label_overlap(truth_HW, labels_HW)
    pairs_50, pairs_75 = (match_objects(overlap, threshold)[0] for threshold in (0.5, 0.75))
    return Counts(len(overlap.truth_area_G), len(overlap.prediction_area_K), pairs_50, pairs_75)


def pool(counts: Sequence[Counts]) -> Accuracy:
    """AP* over all images together; NaN without images.

    Example:
        >>> pool([Counts(true=3, predicted=1, pairs_50=1, pairs_75=0), Counts(1, 2, 1, 1)])
        Accuracy(accuracy_50=0.4, accuracy_75=0.16666666666666666, count_error=1.5)
    """
    if not counts:
        return Accuracy(float('nan'), float('nan'), float('nan'))
    true, predicted, pairs_50, pairs_75 = np.array(counts).T
    objects = true.sum() + predicted.sum()
    accuracy_50, accuracy_75 = (float(p.sum() / max(objects - p.sum(), 1)) for p in (pairs_50, pairs_75))
    return Accuracy(accuracy_50, accuracy_75, float(np.abs(predicted - true).mean()))


def renumbered(found: Found) -> tuple[np.ndarray, np.ndarray]:
    """Renumbers labels without gaps, and selects their scores: labels without a pixel are left out.

    Example:
        >>> renumbered(Found(np.array([[0, 3, 1]]), np.array([0.5, 0.6, 0.7])))
        (array([[0, 2, 1]]), array([0.5, 0.7]))
    """
    present = np.unique(found.labels_HW[found.labels_HW > 0])
    labels_HW = np.where(found.labels_HW > 0, np.searchsorted(present, found.labels_HW) + 1, 0)
    if found.score_K is None:
        return labels_HW, np.ones(len(present))
    if len(present) and present[-1] > len(found.score_K):
        raise ValueError(f'expected a score for each label up to {present[-1]}, got {len(found.score_K)} scores')
    return labels_HW, np.asarray(found.score_K)[present - 1]


class Table:
    """Evaluates methods on the images of a data set, and collects a row for each.

    Args:
        images: of the data set, all of them.
        ann_file: its annotation file.
    """

    def __init__(self, images: Sequence[NucleiImage], ann_file: str) -> None:
        self.images, self.ann_file = images, ann_file
        self.fluorescent = [is_fluorescent(image.pixels_HWC) for image in images]
        self.rows: list[NucleiRow] = []

    def add(self, method: str, found: Sequence[Found], seconds: float | None, note: str = '') -> None:
        """Evaluates the objects that a method has found in each image, and prints their row."""
        metric = CocoInstanceMetric(self.ann_file, metric='segm')
        metric.dataset_meta = dict(classes=(CLASS,))
        counts = []
        for image, one in zip(self.images, found, strict=True):
            counts.append(count_pairs(image.truth_HW, one.labels_HW))
            labels_HW, score_K = renumbered(one)
            boxes_K4 = labels_to_boxes(torch.from_numpy(labels_HW), len(score_K))
            instances = InstanceData(
                bboxes=boxes_K4,
                scores=torch.from_numpy(score_K),
                labels=torch.zeros(len(score_K), dtype=torch.long),
                masks=labels_to_rle(labels_HW, len(score_K)),
            )
            metric.process({}, [dict(img_id=image.img_id, ori_shape=labels_HW.shape, pred_instances=instances)])
        with redirect_stdout(io.StringIO()):  # pycocotools prints a table
            average_precision = metric.compute_metrics(metric.results)['segm_mAP_all']
        chosen = [one for one, fluorescent in zip(counts, self.fluorescent, strict=True) if fluorescent]
        self.rows.append(NucleiRow(method, pool(counts), pool(chosen), average_precision, seconds, note))
        print(format_rows(self.rows[-1:]).splitlines()[-1], flush=True)

    def add_timed(self, method: str, segment: Callable[[NucleiImage], np.ndarray], note: str = '') -> None:
        """Runs a method without scores on each image, and adds its row with the CPU time."""
        began = time.process_time()
        found = [Found(segment(image)) for image in self.images]
        self.add(method, found, time.process_time() - began, note)


def format_rows(rows: Sequence[NucleiRow]) -> str:
    """Formats the table in markdown."""
    titles = (
        'method',
        'AP* .5',
        'AP* .75',
        'count error',
        'fluorescence: AP* .5',
        'AP* .75',
        'count error',
        'AP',
        's',
        'note',
    )
    lines = ['| ' + ' | '.join(titles) + ' |', '|---' * len(titles) + '|']
    for row in rows:
        metrics = [
            text
            for of in (row.all_images, row.fluorescence)
            for text in (f'{of.accuracy_50:.3f}', f'{of.accuracy_75:.3f}', f'{of.count_error:.1f}')
        ]
        seconds = '' if row.seconds is None else f'{row.seconds:.1f}'
        lines.append(
            '| ' + ' | '.join((row.method, *metrics, f'{row.average_precision:.3f}', seconds, row.note)) + ' |'
        )
    return '\n'.join(lines)


def tune(images: Sequence[NucleiImage], method: Callable[..., np.ndarray], names: Sequence[str]) -> dict[str, float]:
    """Finds the settings of a method with the best AP* at .5, one after the other; see :func:`search_settings`."""

    def accuracy(settings: dict[str, float]) -> float:
        counts = [count_pairs(image.truth_HW, method(image.pixels_HWC, **settings)) for image in images]
        return pool(counts).accuracy_50

    def curve(name: str, settings: dict[str, float]) -> dict[float, float]:
        return {value: accuracy(settings | {name: value}) for value in GRIDS[name]}

    found = search_settings(curve, {name: START[name] for name in names})
    print(f'{method.__name__} on {len(images)} training images: AP* .5 {accuracy(found):.3f} with {found}', flush=True)
    return found


def read_images(folder: Path, ann_file: str, every: int = 1) -> list[NucleiImage]:
    """Reads every ``every``-th image of a COCO json, from the folder ``images/`` beside the json."""
    init_default_scope('mmseg')
    dataset = DATASETS.build(
        dict(
            type='CocoInstanceDataset',
            data_root=str(folder),
            ann_file=ann_file,
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=(CLASS,)),
            test_mode=True,
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadInstanceMasks'),
                dict(type='MasksToMaps'),
            ],
        )
    )
    images = []
    for index in range(0, len(dataset), every):
        results = dataset[index]
        images.append(
            NucleiImage(results['img_id'], Path(results['img_path']).stem, results['img'], results['gt_instance_map'])
        )
    return images


def add_model_rows(table: Table, folder: Path, config_name: str, checkpoint: str) -> None:
    """Adds the rows of our model and of the connected components of its class map."""
    config = Config.fromfile(config_name)
    model = init_model(config, checkpoint, device='cuda:0' if torch.cuda.is_available() else 'cpu')
    if not isinstance(model, EmbeddingSegmentor):
        raise SystemExit(f'--model: expected an EmbeddingSegmentor in {config_name}, got {type(model).__name__}')
    init_default_scope('mmseg')
    dataset = DATASETS.build(dict(config.test_dataloader.dataset, data_root=str(folder), ann_file='val.json'))
    without, ours, without_seconds, seconds = {}, {}, 0.0, 0.0
    for img_id, of_components, of_model in run_model(model, dataset):
        (without[img_id], spent), (ours[img_id], spent_ours) = of_components, of_model
        without_seconds, seconds = without_seconds + spent, seconds + spent_ours
    note = f'specks below {model.grouper.min_size} pixels dropped'
    table.add('our classes, components', [without[image.img_id] for image in table.images], without_seconds, note)
    found = [ours[image.img_id] for image in table.images]
    table.add('ours', found, seconds)
    table.add('ours, scores shuffled', shuffled(found), None, 'AP shows whether the scores rank')


def shuffled(found: Sequence[Found], seed: int = 0) -> list[Found]:
    """The same instances with the scores of all images permuted at random.

    Example:
        >>> [one.score_K.tolist() for one in shuffled([Found(np.array([[1]]), np.array([0.5]))] * 2)]
        [[0.5], [0.5]]
    """
    scores = np.random.default_rng(seed).permutation(np.concatenate([one.score_K for one in found]))
    ends = np.cumsum([len(one.score_K) for one in found])
    return [Found(one.labels_HW, part) for one, part in zip(found, np.split(scores, ends[:-1]), strict=True)]


@torch.no_grad()
def run_model(
    model: EmbeddingSegmentor, dataset: torch.utils.data.Dataset
) -> Iterator[tuple[int, tuple[Found, float], tuple[Found, float]]]:
    """Yields for each image its id; the components of its class map with CPU seconds; its instances with CPU seconds."""
    grouper, scorer = ClassGrouping(connected=True, min_size=model.grouper.min_size), SilhouetteScorer(half_size=0)
    for index in range(len(dataset)):
        packed = dataset[index]
        times = [time.process_time()]
        batch = model.data_preprocessor({'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}, False)
        (sample,) = batch['data_samples']
        (view,) = model.views(batch['inputs'], batch['data_samples'])
        times.append(time.process_time())
        class_HW, probability_HW = model.classify(sample, [view], 'predicted')
        parts, parts_HW = predict_instances(
            [[class_map_pass(class_HW, model.num_classes)]],
            class_HW,
            probability_HW,
            model.num_classes,
            grouper,
            scorer,
        )
        times.append(time.process_time())
        result = model.assemble(sample, [view])
        times.append(time.process_time())
        network, with_classes, with_embeddings = np.diff(times).tolist()
        yield (
            sample.metainfo['img_id'],
            (Found(parts_HW.cpu().numpy(), parts.scores.cpu().numpy()), network + with_classes),
            (
                Found(result.pred_instance_map.data[0].cpu().numpy(), result.pred_instances.scores.cpu().numpy()),
                network + with_embeddings,
            ),
        )


def add_label_maps(table: Table, folder: Path) -> None:
    """Adds the row of a folder of label maps."""
    found = [read_label_map(folder / f'{image.stem}.npz', image.truth_HW.shape) for image in table.images]
    path = folder / 'summary.json'
    summary = json.loads(path.read_text()) if path.is_file() else {}
    note = f'{summary["minutes"]:.0f} CPU minutes of training' if 'minutes' in summary else ''
    table.add(summary.get('name', folder.name), found, summary.get('seconds'), note)


def read_label_map(path: Path, size: tuple[int, int]) -> Found:
    """Reads a label map of ``np.savez``; format at the top of this file.

    Raises:
        ValueError: if the file is missing, has no label map or one of another size.
    """
    if not path.is_file():
        raise ValueError(f'expected a label map for each image, got no {path}: write one with the array labels (H, W)')
    with np.load(path) as file:
        if 'labels' not in file or file['labels'].shape != tuple(size):
            got = file['labels'].shape if 'labels' in file else f'arrays {list(file)}'
            raise ValueError(f'{path}: expected an array labels of the size {tuple(size)} of its image, got {got}')
        return Found(file['labels'].astype(np.int64), file.get('scores'))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--data', type=Path, default=Path('data/dsb2018'), help='folder with images/, train.json, val.json'
    )
    parser.add_argument('--model', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='our model, and its class map alone')
    parser.add_argument('--labels', type=Path, nargs='*', default=[], help='folders of label maps, a row each')
    parser.add_argument('--no-classical', action='store_true', help='without the rows that need neither of the two')
    parser.add_argument('--out', type=Path, default=FOLDER, help=f'folder for the json; {FOLDER} unless given')
    args = parser.parse_args(arguments)
    if not (args.data / 'val.json').is_file():
        raise SystemExit(f'--data: expected a folder with val.json, got {args.data}')
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)

    table = Table(read_images(args.data, 'val.json'), str(args.data / 'val.json'))
    true = sum(len(np.unique(image.truth_HW[image.truth_HW > 0])) for image in table.images)
    print(f'{len(table.images)} images, {sum(table.fluorescent)} of fluorescence, {true} nuclei')
    settings = {}
    if not args.no_classical:
        training = read_images(args.data, 'train.json', every=4)
        for name, method, names in (
            ('Otsu, components', otsu_components, ('blur', 'min_size')),
            ('Otsu, watershed', otsu_watershed, tuple(GRIDS)),
        ):
            tuned = settings[name] = tune(training, method, names)
            table.add_timed(name, lambda image, run=method, of=tuned: run(image.pixels_HWC, **of))
        table.add_timed('true foreground, components', lambda image: components(image.truth_HW > 0))
    if args.model:
        add_model_rows(table, args.data, *args.model)
    for folder in args.labels:
        add_label_maps(table, folder)

    print(f'\n{format_rows(table.rows)}')
    args.out.mkdir(parents=True, exist_ok=True)
    report = {
        'command': f'python -m benchmarks.{NAME} {" ".join(sys.argv[1:])}'.strip(),
        'date': date.today().isoformat(),
        'machine': describe_machine(),
        'settings': settings,
        'rows': [
            dict(asdict(row), all_images=row.all_images._asdict(), fluorescence=row.fluorescence._asdict())
            for row in table.rows
        ],
    }
    (args.out / f'{NAME}.json').write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
    main()
