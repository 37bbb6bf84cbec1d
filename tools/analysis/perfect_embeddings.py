"""Loss of AP without a network: the ground truth's masks, as perfect embeddings, go through grouper, resize and metric.

::

    python tools/analysis/perfect_embeddings.py configs/instancenet_digits.py
    python tools/analysis/perfect_embeddings.py configs/instancenet_r50_dsb2018.py --length 513 --stride 4

At the images' own size only what masks hide of each other may be lost. Beside it: the masks resized to the network's
input, and to the size of the head's map.
"""

import argparse
import logging

from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from mmseg_instancenet.analysis.grouping_rows import GroupingRow, classify_perfect, perfect_pass
from mmseg_instancenet.apis.analysis_run import with_pipeline
from mmseg_instancenet.apis.command_line import add_common_arguments, load_config
from mmseg_instancenet.evaluation import CocoInstanceMetric
from mmseg_instancenet.models import CenterGrouping, SilhouetteScorer
from mmseg_instancenet.structures import classes_of


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file; only its test data are used')
    parser.add_argument('--length', type=int, help='longer side of the input, e.g. 513')
    parser.add_argument('--stride', type=int, default=4, help='of the head in the input')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = load_config(args)
    init_default_scope('mmseg')
    MMLogger.get_instance('perfect_embeddings', log_level=logging.ERROR)
    pipeline = [
        dict(type='LoadImageFromFile', color_type='unchanged'),  # any depth: the image itself is not used
        dict(type='LoadInstanceMasks'),
        dict(type='MasksToMaps'),
        dict(type='PackInstanceMaps'),
    ]
    dataset = DATASETS.build(with_pipeline(config.test_dataloader.dataset, pipeline))
    count = len(classes_of(dataset.metainfo)) + 1
    strides = {'own size': None}
    if args.length:
        strides[f'resized to {args.length}'] = 1
        strides[f'resized to {args.length}, head at stride {args.stride}'] = args.stride
    rows = {}
    for name in strides:
        metric = CocoInstanceMetric(metric='segm')
        metric.dataset_meta = dataset.metainfo
        rows[name] = GroupingRow(name, CenterGrouping(), SilhouetteScorer(), 'ground_truth', metric)
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        truth = sample.gt_sem_seg.data[0], sample.gt_instance_map.data[0]
        for name, stride in strides.items():
            size = None
            if stride:
                factor = args.length / max(truth[0].shape) / stride
                size = tuple(max(1, round(length * factor)) for length in truth[0].shape)
            network_pass = perfect_pass(*truth, count, size)
            rows[name].add(sample, [[network_pass]], classify_perfect(network_pass), count)
    for name, row in rows.items():
        values = row.metrics()
        print(f'{name:<40} AP {values["segm_mAP"]:.3f}  uncapped {values["segm_mAP_all"]:.3f}', flush=True)


if __name__ == '__main__':
    main()
