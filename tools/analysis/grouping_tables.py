"""InstanceNet's tables 1 and 2 (Gao 2020) for a checkpoint, with baselines: the network runs once over the validation set.

::

    python tools/analysis/grouping_tables.py configs/instancenet_r50_coco.py CHECKPOINT
    python tools/analysis/grouping_tables.py CONFIG CHECKPOINT --thresholds 0.8 1.2 1.6 --mode fixed --classes predicted
    python tools/analysis/grouping_tables.py CONFIG CHECKPOINT --out tables.json

Table 1: center-fixed and center-shift, with predicted and with ground-truth classes, at the config's threshold. Table 2: AP
against threshold. Baselines, by the same metric: one group a class, and the connected components of each class at the
picture's own size. Last, the AP of the config's grouping with its scores shuffled (mean of ten), to see whether they rank.
"""

import argparse
import json
import logging
from itertools import product

import torch
from mmengine.logging import MMLogger

from mmseg_instancenet.analysis.grouping_rows import GroupingRow
from mmseg_instancenet.apis.analysis_run import load_for_analysis
from mmseg_instancenet.apis.command_line import add_common_arguments, load_config
from mmseg_instancenet.evaluation import CocoInstanceMetric
from mmseg_instancenet.models import CenterGrouping, ClassGrouping, SilhouetteScorer

CLASSES = ('predicted', 'ground_truth')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, its grouper a CenterGrouping')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--thresholds', type=float, nargs='*', default=[0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0])
    parser.add_argument('--mode', choices=['shift', 'fixed'], default='shift', help='grouper of table 2')
    parser.add_argument('--classes', choices=CLASSES, default='ground_truth', help='classes of table 2')
    parser.add_argument('--out', help='json file for all figures')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = load_config(args)
    grouper_config = dict(config.model.grouper)
    if grouper_config.pop('type') != 'CenterGrouping':
        raise SystemExit(f'expected a CenterGrouping in {args.config}, got {config.model.grouper.type}')
    if any(threshold <= 0 for threshold in args.thresholds):
        raise SystemExit(f'--thresholds: expected values > 0, got {args.thresholds}')
    runner = load_for_analysis(config, args.checkpoint)
    model = runner.model
    dataloader = runner.build_dataloader(config.test_dataloader)

    def row(name: str, grouper, classes: str, uses_embeddings: bool = True) -> GroupingRow:
        metric = CocoInstanceMetric(metric='segm')
        metric.dataset_meta = dataloader.dataset.metainfo
        # Without embeddings a group's size is no sign that it is right: it may be two objects.
        scorer = model.group_scorer if uses_embeddings else SilhouetteScorer(half_size=0)
        return GroupingRow(name, grouper, scorer, classes, metric, uses_embeddings)

    def centers(**settings) -> CenterGrouping:
        return CenterGrouping(**{**grouper_config, **settings})

    table_1 = [
        row(f'center-{mode}', centers(mode=mode), classes) for classes, mode in product(CLASSES, ('fixed', 'shift'))
    ]
    table_2 = [
        row(f'{threshold:g}', centers(mode=args.mode, threshold=threshold), args.classes)
        for threshold in args.thresholds
    ]
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
    figures, computed = {}, {}
    for title, rows in (
        (f'Table 1: threshold {grouper_config.get("threshold", 1.2):g}', table_1),
        (f'Table 2: center-{args.mode}, AP against threshold', table_2),
        ('Baselines', baselines),
    ):
        print(f'\n{title}\n{"grouping":<30} {"classes":<14} {"AP":>6} {"AP50":>6} {"AP75":>6} {"AP_all":>6}')
        for one in rows:
            values = computed[one] = one.figures()
            figures.setdefault(title.split(':')[0], []).append(dict(values, grouping=one.name, classes=one.classes))
            shown = ' '.join(
                f'{values[key]:6.3f}' for key in ('segm_mAP', 'segm_mAP_50', 'segm_mAP_75', 'segm_mAP_all')
            )
            print(f'{one.name:<30} {one.classes:<14} {shown}', flush=True)
    print('\nScores')
    for one in table_1:
        if one.name == f'center-{grouper_config.get("mode", "shift")}':
            ranked, shuffled = computed[one]['segm_mAP'], one.shuffled(range(10))
            mean = sum(shuffled) / len(shuffled)
            figures.setdefault('Scores', []).append(dict(classes=one.classes, AP=ranked, shuffled=shuffled))
            span = f'{min(shuffled):.3f} to {max(shuffled):.3f}'
            print(f'{one.classes:<14} AP {ranked:.3f}, scores shuffled {mean:.3f} (mean of 10, {span})')
    if args.out:
        with open(args.out, 'w') as file:
            json.dump(figures, file, indent=1)


if __name__ == '__main__':
    main()
