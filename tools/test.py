"""Tests a checkpoint: table of COCO AP, IoU of classes, and drawings if requested.

::

    python tools/test.py configs/instancenet_digits.py work_dirs/instancenet_digits/epoch_5.pth --show-dir work_dirs/images
    python tools/test.py CONFIG CHECKPOINT --cfg-options model.test_cfg.classes=ground_truth
    python tools/test.py CONFIG CHECKPOINT --cfg-options model.grouper.mode=fixed model.grouper.threshold=1.0
    python tools/test.py CONFIG CHECKPOINT --tta                     # the flips of the config's tta_pipeline
    python tools/test.py CONFIG CHECKPOINT --out predictions.pkl
    bash tools/dist_test.sh CONFIG CHECKPOINT 8
"""

import argparse

from mmengine.config import ConfigDict
from mmengine.runner import Runner

from mmseg_instancenet.apis.analysis_run import drop_loop_hooks, with_pipeline
from mmseg_instancenet.apis.command_line import add_common_arguments, load_config
from mmseg_instancenet.evaluation import DetectionsDump


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--show-dir', help='folder for images: input, class map, embedding, instances, ground truth')
    parser.add_argument(
        '--out',
        help='pickle file for the detections alone: labels, scores, bounding boxes and masks as run lengths; see DetectionsDump',
    )
    parser.add_argument('--tta', action='store_true', help='test-time augmentation by the tta_pipeline of the config')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = load_config(args)
    config.load_from = args.checkpoint
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise SystemExit(f'--out: expected a file that ends in .pkl or .pickle, got {args.out}')
    if args.show_dir:
        config.custom_hooks = [*config.get('custom_hooks', []), dict(type='PanelHook', folder=args.show_dir)]
    if args.tta:
        if 'tta_pipeline' not in config or 'tta_model' not in config:
            raise SystemExit(f'--tta needs tta_pipeline and tta_model in {args.config}; see configs/_base_/datasets')
        config.model = ConfigDict(**config.tta_model, module=config.model)
        config.test_dataloader.dataset = with_pipeline(config.test_dataloader.dataset, config.tta_pipeline)
    runner = Runner.from_cfg(config)
    drop_loop_hooks(runner)
    if args.out:
        runner.test_evaluator.metrics.append(DetectionsDump(args.out))
    runner.test()


if __name__ == '__main__':
    main()
