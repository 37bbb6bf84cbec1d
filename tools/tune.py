"""Chooses the settings of the grouping on images of the training set: threshold, min_size and a cut of the scores. They are
stored beside the checkpoint and used with it from then on.

::

    python tools/tune.py configs/instancenet_unet_dsb2018.py work_dirs/instancenet_unet_dsb2018/epoch_100.pth
    python tools/tune.py CONFIG CHECKPOINT --aim AP --images 200
    python tools/tune.py CONFIG CHECKPOINT --thresholds 0.8 1.0 1.2 1.5 --min-sizes 1 8 16 32
    python tools/test.py CONFIG CHECKPOINT      # with the settings that were found

It writes ``CHECKPOINT_tuned.json`` beside the checkpoint, with the settings, and ``CHECKPOINT_tuned.png`` with the curves.
tools/test.py, tools/predict.py, InstanceInferencer, init_model, tools/fit_scorer.py, tools/ship_model.py,
tools/analysis/grouping_tables.py and tools/analysis/error_budget.py read the json and use its settings in place of the
config's. They leave out those that ``--cfg-options`` gives, and all of them where the config has ``use_tuned_settings = False``.
tune.py itself begins with the config's settings, and replaces the json.

The images are those of ``tune_dataloader`` of the config, which is written as ``test_dataloader`` is: a training that keeps some
images of the training set back gives it their ``indices``. A config without it is tuned on images that the network was trained
on, evenly spread over the training set; the values are then a little optimistic. The validation set is never used.

The network runs once. Its outputs are grouped anew for each value of ``threshold`` (CenterGrouping), ``concentration``
(MeanShiftGrouping) or ``mask_threshold`` (SeedGrouping), the best is kept, then for each ``min_size``; ``test_cfg.score_thr``
needs no grouping. A second round begins with what the first has found, unless that changed nothing. Where the best threshold or
concentration lies at the end of its curve, the curve goes on, for six more values at most. Values that the config has always
take part. Aims that differ by less than half an object in all the images count as equal, and among equals the value nearest to
the config's is taken: ten images with thirty objects cannot separate .66 from .67, and the highest point of a flat curve may lie
beside a cliff.

``--aim``, the largest, or the smallest ``count_error``; pooled over the images, as CountingMetric has them, without regard to
class:
    accuracy_50    TP / (TP + FP + FN) at an IoU of 0.5, AP* of cell counting
    f1_50          2 TP / (2 TP + FP + FN) at an IoU of 0.5
    mean_accuracy  mean of TP / (TP + FP + FN) over the IoU 0.5:0.05:0.95
    count_error    mean over the images of |predicted - true number of objects|
    AP             COCO's AP without the limit of 100 instances an image, segm_mAP_all of CocoInstanceMetric. A cut of the scores
                   can only lower it: score_thr is set to 0.
"""

import argparse
import io
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.logging import MMLogger
from mmseg.registry import MODELS

from mmseg_instancenet.analysis.first_settings import (
    FACTORS,
    FIRST_SETTINGS,
    check_segmentor,
    default_values,
    first_setting,
    three_digits,
    value_of_first,
)
from mmseg_instancenet.analysis.kept_outputs import KeptImage, group_again, keep_outputs
from mmseg_instancenet.analysis.tuning import (
    ImageMatches,
    Metrics,
    best_value,
    counting_metrics,
    match_image,
    search_settings,
)
from mmseg_instancenet.apis.analysis_run import load_for_analysis, spread, training_set_for_testing
from mmseg_instancenet.apis.command_line import add_common_arguments, load_config
from mmseg_instancenet.apis.tuned_settings import TunedSettings, file_sha256, grouper_type, tuned_settings_path
from mmseg_instancenet.evaluation import CocoInstanceMetric
from mmseg_instancenet.evaluation.functional.mask_overlap import IOU_THRESHOLDS
from mmseg_instancenet.models import EmbeddingSegmentor
from mmseg_instancenet.visualization.curves import SettingCurve, plot_setting_curves

AIMS = ('accuracy_50', 'f1_50', 'mean_accuracy', 'count_error', 'AP')
MIN_SIZES = (1, 4, 8, 16, 24, 32, 48, 64)
SCORE_CUTS = tuple(round(0.05 * step, 2) for step in range(19))
OPTIONS = {**dict.fromkeys(FIRST_SETTINGS.values(), '--thresholds'), 'min_size': '--min-sizes'}
HALF_AN_OBJECT = 0.5
FURTHER = 6
"""More values, at most, where the best lies at the end of the curve."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, its grouper a CenterGrouping, MeanShiftGrouping or SeedGrouping')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--aim', choices=AIMS, default='accuracy_50', help='metric that the settings shall improve')
    parser.add_argument(
        '--images', type=int, help='images to look at, at most; 60 of the training set, or all of tune_dataloader'
    )
    parser.add_argument(
        '--thresholds',
        type=float,
        nargs='+',
        help="values of threshold, concentration or mask_threshold, no others but the config's; unless given, 0.5 to 2.5 times "
        "the config's and beyond, or for mask_threshold 0.1 to 0.7",
    )
    parser.add_argument('--min-sizes', type=int, nargs='+', default=MIN_SIZES, help='values of min_size')
    parser.add_argument(
        '--out', help='json file to write, the png beside it; CHECKPOINT_tuned.json beside the checkpoint unless given'
    )
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    out = check_arguments(args)
    config = load_config(args)
    held_back = 'tune_dataloader' in config
    training_set = None if held_back else training_set_for_testing(config)
    runner = load_for_analysis(config, args.checkpoint)
    model = runner.model
    try:
        check_segmentor(model, args.config)
        first = first_setting(model.grouper, args.config)
    except ValueError as error:
        raise SystemExit(error) from error
    start = {first: value_of_first(model.grouper), 'min_size': model.grouper.min_size}
    cut = float(model.test_cfg.get('score_thr', 0.0))

    dataloader = runner.build_dataloader(
        config.tune_dataloader if held_back else dict(config.test_dataloader, dataset=training_set)
    )
    if args.aim == 'AP' and hasattr(dataloader.dataset, 'datasets'):
        raise SystemExit(
            f'--aim AP: expected images of one annotation file, got {len(dataloader.dataset.datasets)} data sets that are '
            'joined; take another aim, or name one set in tune_dataloader'
        )
    count = args.images or (len(dataloader.dataset) if held_back else 60)
    began = time.perf_counter()
    try:
        images = keep_outputs(model, spread(dataloader, count))
    except ValueError as error:
        raise SystemExit(f'{args.config} with {args.checkpoint}: {error}') from error
    true = count_objects(images)
    source = 'tune_dataloader' if held_back else 'the training set'
    print(f'\n{len(images)} images of {source}, {true} objects; network: {time.perf_counter() - began:.0f} s')
    if not held_back:
        print('The network was trained on these images: values chosen on them are a little optimistic. To tune on images '
              'that it has not seen, keep some of the training set back and name them in tune_dataloader.')  # fmt: skip
    MMLogger.get_current_instance().setLevel(logging.ERROR)

    trials = Trials(model, images, dict(config.model.grouper), args.aim, dataloader.dataset.metainfo)
    grids = {
        first: args.thresholds or default_values(first, start[first]),
        'min_size': args.min_sizes,
    }
    if args.aim == 'AP':
        print('A cut of the scores can only lower AP: score_thr is 0.')
        cut = 0.0
    else:
        start['score_thr'], grids['score_thr'] = cut, SCORE_CUTS

    sign = -1 if args.aim == 'count_error' else 1  # the search looks for the largest value
    rows: dict[str, dict[float, Row]] = {}

    def curve(name: str, settings: dict) -> dict:
        others = ', '.join(f'{key} {value:g}' for key, value in settings.items() if key != name)
        print(f'\n{name}, with {others}\n{name:>14} {args.aim:>14} {"predicted":>10} {"true":>7} {"count error":>12}')
        aims, rows[name] = {}, {}
        values = sorted({*grids[name], settings[name], start[name]})
        while values:
            for value in values:
                row = rows[name][value] = trials.row(settings | {name: value})
                aims[value] = sign * row.aim
                counts = row.counts
                print(
                    f'{value:>14g} {row.aim:>14.4f} {counts.predicted:>10} {counts.true:>7} {counts.count_error:>12.2f}',
                    flush=True,
                )
            further = (
                name in ('threshold', 'concentration') and not args.thresholds and len(aims) < len(FACTORS) + FURTHER
            )
            values = next_value(aims, start[name]) if further else []
        grids[name] = sorted(aims)
        return aims

    began = time.perf_counter()
    before = trials.row(start)
    tolerance = HALF_AN_OBJECT / (len(images) if args.aim == 'count_error' else before.counts.true)
    found = search_settings(curve, start, tolerance=tolerance)
    after = trials.row(found).aim
    print(f'\n{trials.count} groupings of {len(images)} images: {time.perf_counter() - began:.0f} s')
    ends = {first: (min(grids[first]), max(grids[first])), 'min_size': (max(grids['min_size']),)}
    for name in (first, 'min_size'):
        if found[name] in ends[name] and len(grids[name]) > 1:
            print(f'The best {name} lies at the end of its values: a value beyond may be better, see {OPTIONS[name]}.')
    drawn = [setting_curve(name, rows[name], start[name], value) for name, value in found.items()]
    found.setdefault('score_thr', cut)
    print(f'\n{args.aim} {before.aim:.4f} -> {after:.4f} on these images, of which {tolerance:.4f} is half an object')
    for name, value in found.items():
        print(f'{name:>14} {start.get(name, model.test_cfg.get("score_thr", 0.0)):g} -> {value:g}')
    plot_setting_curves(drawn, args.aim, out.with_suffix('.png'))
    settings = {
        'model.test_cfg.score_thr' if name == 'score_thr' else f'model.grouper.{name}': value
        for name, value in found.items()
    }
    TunedSettings(
        settings, grouper_type(config), args.aim, before.aim, after, len(images), true, date.today().isoformat(),
        file_sha256(args.checkpoint),
    ).write(out)  # fmt: skip
    print(f'\n{out} and {out.with_suffix(".png")} written')
    default = tuned_settings_path(args.checkpoint)
    if out.resolve() == default.resolve():
        print(f'used from now on:\n  python tools/test.py {args.config} {args.checkpoint}')
    else:
        print(f'to use it, copy it to {default}')
    if args.cfg_options:
        print('Other --cfg-options of this call are not stored in it: give them to tools/test.py too.')


def check_arguments(args: argparse.Namespace) -> Path:
    """Raises SystemExit for invalid arguments; returns the path of the json to write."""
    if not Path(args.checkpoint).is_file():
        raise SystemExit(f'checkpoint not found: {args.checkpoint}')
    if args.images is not None and args.images < 1:
        raise SystemExit(f'--images: expected at least 1, got {args.images}')
    for option, values in (('--thresholds', args.thresholds or []), ('--min-sizes', args.min_sizes)):
        if not all(value > 0 for value in values):
            raise SystemExit(f'{option}: expected values > 0, got {values}')
    out = Path(args.out) if args.out else tuned_settings_path(args.checkpoint)
    if out.suffix != '.json':
        raise SystemExit(f'--out: expected a file that ends in .json, got {out}')
    return out


def count_objects(images: Sequence[KeptImage]) -> int:
    true = sum(len(np.unique(image.truth_HW[image.truth_HW > 0])) for image in images)
    if not true:
        raise SystemExit(
            f'expected objects in the images that settings are chosen on, got none in {len(images)} images: raise --images, or '
            'choose others in tune_dataloader'
        )
    return true


def next_value(aims: Mapping[float, float], preferred: float) -> list[float]:
    """The next value to try beyond the end of a curve whose best value is at that end, as a list; empty if the best
    value is inside."""
    values, best = sorted(aims), best_value(aims, preferred)
    for end, neighbour in ((values[0], values[1]), (values[-1], values[-2])):
        if best == end:
            return [three_digits(end * end / neighbour)]
    return []


class Row(NamedTuple):
    """The ``aim`` of some settings, and the counts and the accuracy of the instances found with them."""

    aim: float
    counts: Metrics


def setting_curve(name: str, rows: Mapping[float, Row], before: float, after: float) -> SettingCurve:
    """The curve of a setting, to be drawn, from its rows by value."""
    values = sorted(rows)
    aims = [rows[value].aim for value in values]
    count_errors = [rows[value].counts.count_error for value in values]
    return SettingCurve(name, values, aims, count_errors, before, after)


class Trials:
    """Groups the kept images with any settings, each setting only once.

    Args:
        model, images: see :func:`keep_outputs`.
        grouper_config: of the config.
        aim: of :data:`AIMS`.
        dataset_meta: of the data set, for AP.
    """

    def __init__(
        self, model: EmbeddingSegmentor, images: Sequence[KeptImage], grouper_config: dict, aim: str, dataset_meta: dict
    ) -> None:
        self.model, self.images, self.grouper_config, self.aim = model, images, grouper_config, aim
        self.metric = None
        if aim == 'AP':
            if any('ann_file' not in image.meta for image in images):
                raise SystemExit(
                    '--aim AP: expected a data set with an annotation file (CocoInstanceDataset), got none'
                )
            self.metric = CocoInstanceMetric(metric='segm')
            self.metric.dataset_meta = dataset_meta
        self._grouped: dict[tuple, tuple[list[ImageMatches], float | None]] = {}

    @property
    def count(self) -> int:
        """Number of different settings of the grouper so far."""
        return len(self._grouped)

    def row(self, settings: dict[str, float]) -> Row:
        """The metrics for some settings of the grouper, and for ``score_thr`` if given."""
        of_grouper = {name: value for name, value in settings.items() if name != 'score_thr'}
        key = tuple(of_grouper.items())
        if key not in self._grouped:
            self._grouped[key] = self._group(of_grouper)
        matches, average_precision = self._grouped[key]
        thresholds = IOU_THRESHOLDS if self.aim == 'mean_accuracy' else (0.5,)
        counts = counting_metrics(matches, settings.get('score_thr', 0.0), thresholds)
        if average_precision is not None:
            return Row(average_precision, counts)
        return Row({'f1_50': counts.f1, 'count_error': counts.count_error}.get(self.aim, counts.accuracy), counts)

    def _group(self, settings: dict[str, float]) -> tuple[list[ImageMatches], float | None]:
        # Without the margins of the loss: a wide curve leaves them, which is no reason to warn.
        grouper = MODELS.build({**self.grouper_config, **settings})
        matches = []
        for image in self.images:
            instances, map_HW = group_again(self.model, image, grouper)
            matches.append(match_image(image.truth_HW, map_HW.cpu().numpy(), instances.scores.cpu().numpy()))
            if self.metric:
                self.metric.process({}, [dict(image.meta, pred_instances=instances)])
        if not self.metric:
            return matches, None
        with redirect_stdout(io.StringIO()):  # pycocotools prints a table
            metrics = self.metric.compute_metrics(self.metric.results)
        self.metric.results.clear()
        return matches, metrics['segm_mAP_all']


if __name__ == '__main__':
    main()
