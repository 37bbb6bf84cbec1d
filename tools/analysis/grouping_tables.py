"""Computes InstanceNet's tables 1 and 2 (Gao 2020) for a checkpoint, with baselines: the network runs once over the
validation set.

::

    python tools/analysis/grouping_tables.py configs/instancenet_r50_coco.py CHECKPOINT
    python tools/analysis/grouping_tables.py CONFIG CHECKPOINT --thresholds 0.8 1.2 1.6 --mode fixed --classes predicted
    python tools/analysis/grouping_tables.py CONFIG CHECKPOINT --grouper type=MeanShiftGrouping kernel=norm concentration=1
    python tools/analysis/grouping_tables.py CONFIG CHECKPOINT --out tables.json

Table 1: the config's grouper, with predicted and with ground-truth classes; of a CenterGrouping both modes, center-fixed and
center-shift; then those of --grouper. Table 2: AP of the config's grouper against its ``threshold`` (CenterGrouping),
``concentration`` (MeanShiftGrouping) or ``mask_threshold`` (SeedGrouping). Baselines, by the same metric: one group a class, and
the connected components of each class at the image's own size. Last, the AP of the config's grouping with its scores shuffled
(mean of ten), to see whether they rank.
"""

import argparse
import json
import logging
from itertools import product

import torch
from mmengine.config import DictAction
from mmengine.logging import MMLogger
from mmseg.registry import MODELS

from mmseg_instancenet.analysis.first_settings import (
    FIRST_SETTINGS,
    check_segmentor,
    default_values,
    first_setting,
    value_of_first,
)
from mmseg_instancenet.analysis.grouping_rows import GroupingRow
from mmseg_instancenet.apis.analysis_run import load_for_analysis
from mmseg_instancenet.apis.command_line import add_common_arguments, load_config
from mmseg_instancenet.evaluation import CocoInstanceMetric
from mmseg_instancenet.models import (
    CenterGrouping,
    ClassGrouping,
    EmbeddingSegmentor,
    SeedGrouping,
    SilhouetteScorer,
)
from mmseg_instancenet.models.groupers import Grouper

CLASSES = ('predicted', 'ground_truth')
THRESHOLDS = [0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]


class AppendDict(DictAction):
    """argparse action that collects settings like ``--cfg-options``, in a new dict for each use of the option."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        one = argparse.Namespace()
        super().__call__(parser, one, values, option_string)
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), getattr(one, self.dest)])


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = [kind.__name__ for kind in FIRST_SETTINGS]
    parser.add_argument('config', help=f'config file, its grouper a {", ".join(kinds[:-1])} or {kinds[-1]}')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--grouper',
        nargs='+',
        action=AppendDict,
        default=[],
        help='another grouper for table 1, complete: type=... and its settings as key=value; can be given several times',
    )
    parser.add_argument(
        '--thresholds',
        type=float,
        nargs='*',
        help='values of threshold, concentration or mask_threshold for table 2; unless given, the thresholds 0.6 to 2.0, 0.25 to '
        "6.25 times the config's concentration, or mask_thresholds 0.1 to 0.7",
    )
    parser.add_argument(
        '--mode', choices=['shift', 'fixed'], help='of the CenterGrouping of table 2; shift unless given'
    )
    parser.add_argument('--classes', choices=CLASSES, default='ground_truth', help='classes of table 2')
    parser.add_argument('--out', help='json file for all metrics')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = load_config(args)
    if any(threshold <= 0 for threshold in args.thresholds or []):
        raise SystemExit(f'--thresholds: expected values > 0, got {args.thresholds}')
    grouper_config = dict(config.model.grouper)
    runner = load_for_analysis(config, args.checkpoint)
    model = runner.model

    def changed(**settings) -> Grouper:
        # Without the margins of the loss: a wide curve leaves them, which is no reason to warn.
        return MODELS.build({**grouper_config, **settings})

    try:
        check_segmentor(model, args.config)
        first = first_setting(model.grouper, args.config)
        configured = value_of_first(model.grouper)
        has_centers = isinstance(model.grouper, CenterGrouping)
        if args.mode and not has_centers:
            raise ValueError(f'--mode: expected a CenterGrouping in {args.config}, got {kind(model.grouper)}')
        own = [changed(mode=mode) for mode in ('fixed', 'shift')] if has_centers else [changed()]
        others = [build_other(model, settings) for settings in args.grouper]
        values = args.thresholds
        if values is None:
            values = THRESHOLDS if has_centers else default_values(first, configured)
        of_curve = dict(mode=args.mode or 'shift') if has_centers else {}
        curve = [changed(**of_curve, **{first: value}) for value in values]
    except ValueError as error:
        raise SystemExit(error) from error
    dataloader = runner.build_dataloader(config.test_dataloader)

    def row(name: str, grouper: Grouper, classes: str, uses_embeddings: bool = True) -> GroupingRow:
        metric = CocoInstanceMetric(metric='segm')
        metric.dataset_meta = dataloader.dataset.metainfo
        # Without embeddings a group's size is no sign that it is right: it may be two objects.
        scorer = model.group_scorer if uses_embeddings else SilhouetteScorer(half_size=0)
        return GroupingRow(name, grouper, scorer, classes, metric, uses_embeddings)

    named = [(kind(grouper), grouper) for grouper in own]
    for other in others:
        name = first_setting(other, '--grouper')
        named.append((f'{kind(other)}, {name} {value_of_first(other):g}', other))
    table_1 = [row(name, grouper, classes) for classes, (name, grouper) in product(CLASSES, named)]
    table_2 = [row(f'{value_of_first(grouper):g}', grouper, args.classes) for grouper in curve]
    baselines = [
        row(name, ClassGrouping(connected=connected), classes, uses_embeddings=False)
        for classes in CLASSES
        for name, connected in (('one group a class', False), ('connected components a class', True))
    ]
    with torch.no_grad():
        for index, data in enumerate(dataloader):
            batch = model.data_preprocessor(data, False)
            views = model.views(batch['inputs'], batch['data_samples'])
            for sample, view in zip(batch['data_samples'], views, strict=True):
                classified = {classes: model.classify(sample, [view], classes) for classes in CLASSES}
                for one in (*table_1, *table_2, *baselines):
                    one.add(sample, [view], classified[one.classes], model.num_classes)
            if (index + 1) % 50 == 0:
                print(f'{index + 1} of {len(dataloader)} batches', flush=True)

    MMLogger.get_current_instance().setLevel(logging.ERROR)
    metrics, computed = {}, {}
    width = max(30, *(len(name) for name, _ in named))
    for title, rows in (
        (f'Table 1: {first} {configured:g}', table_1),
        (f'Table 2: {kind(changed(**of_curve))}, AP against {first}', table_2),
        ('Baselines', baselines),
    ):
        print(f'\n{title}\n{"grouping":<{width}} {"classes":<14} {"AP":>6} {"AP50":>6} {"AP75":>6} {"AP_all":>6}')
        for one in rows:
            values = computed[one] = one.metrics()
            metrics.setdefault(title.split(':')[0], []).append(dict(values, grouping=one.name, classes=one.classes))
            shown = ' '.join(
                f'{values[key]:6.3f}' for key in ('segm_mAP', 'segm_mAP_50', 'segm_mAP_75', 'segm_mAP_all')
            )
            print(f'{one.name:<{width}} {one.classes:<14} {shown}', flush=True)
    print('\nScores')
    for one in table_1:
        if one.name == kind(model.grouper):
            ranked, shuffled = computed[one]['segm_mAP'], one.shuffled(range(10))
            mean = sum(shuffled) / len(shuffled)
            metrics.setdefault('Scores', []).append(dict(classes=one.classes, AP=ranked, shuffled=shuffled))
            span = f'{min(shuffled):.3f} to {max(shuffled):.3f}'
            print(f'{one.classes:<14} AP {ranked:.3f}, scores shuffled {mean:.3f} (mean of 10, {span})')
    if args.out:
        with open(args.out, 'w') as file:
            json.dump(metrics, file, indent=1)


def build_other(model: EmbeddingSegmentor, settings: dict) -> Grouper:
    """Builds a grouper of the command line. Raises ValueError for one that does not fit this network's embeddings."""
    try:
        grouper = model.build_grouper(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'--grouper {settings}: {error}') from error
    if isinstance(model.grouper, SeedGrouping) and not isinstance(grouper, SeedGrouping):
        raise ValueError(
            f'--grouper: expected a SeedGrouping for a network with seeds, got {type(grouper).__name__}: the last two values of '
            'an embedding are bandwidth and seed there'
        )
    first_setting(grouper, '--grouper')
    return grouper


def kind(grouper: Grouper) -> str:
    """Name of the kind of a grouper in the tables."""
    return f'center-{grouper.mode}' if isinstance(grouper, CenterGrouping) else type(grouper).__name__


if __name__ == '__main__':
    main()
