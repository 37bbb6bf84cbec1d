"""Tests a checkpoint: table of COCO AP, IoU of classes, and drawings if requested.

::

    python tools/test.py configs/instancenet_digits.py work_dirs/instancenet_digits/epoch_6.pth --show-dir work_dirs/images
    python tools/test.py CONFIG CHECKPOINT --cfg-options model.test_cfg.classes=ground_truth
    python tools/test.py CONFIG CHECKPOINT --cfg-options model.grouper.mode=fixed model.grouper.threshold=1.0
    python tools/test.py CONFIG CHECKPOINT --tta                     # the flips of the config's tta_pipeline
    python tools/test.py CONFIG CHECKPOINT --amp                     # the network in mixed precision
    python tools/test.py CONFIG CHECKPOINT --out predictions.pkl
    python tools/test.py CONFIG CHECKPOINT --report work_dirs/report.html
    bash tools/dist_test.sh CONFIG CHECKPOINT 8

Settings of the grouping that tools/tune.py has stored beside the checkpoint come before those of the config, and are printed.
--cfg-options comes before both; ``--cfg-options use_tuned_settings=False`` tests with the settings of the config.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.device import get_device

from mmseg_instancenet import __version__
from mmseg_instancenet.apis.analysis_run import EvaluationRunner, drop_loop_hooks, with_pipeline
from mmseg_instancenet.apis.command_line import add_common_arguments, add_launcher, load_config_of_checkpoint
from mmseg_instancenet.engine import prediction_type
from mmseg_instancenet.evaluation import DetectionsDump
from mmseg_instancenet.report import HTMLReport


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--show-dir', help='folder for images: input, class map, embedding, instances, ground truth')
    parser.add_argument(
        '--out',
        help='pickle file for the detections alone: labels, scores, bounding boxes and masks as run lengths; see DetectionsDump',
    )
    parser.add_argument(
        '--report',
        help='HTML file, or folder for report.html: AP by class and size, score cut, counts, calibration, images and errors',
    )
    parser.add_argument(
        '--amp', action='store_true', help='network in mixed precision: float16 on a GPU, bfloat16 on a CPU'
    )
    parser.add_argument('--tta', action='store_true', help='test-time augmentation by the tta_pipeline of the config')
    add_common_arguments(parser)
    add_launcher(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = load_config_of_checkpoint(args)
    config.load_from = args.checkpoint
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise SystemExit(f'--out: expected a file that ends in .pkl or .pickle, got {args.out}')
    if args.amp:
        # MMEngine's name; its autocast chooses the same types.
        config.test_cfg.fp16 = prediction_type(get_device()) != torch.float32
    if args.show_dir:
        config.custom_hooks = [*config.get('custom_hooks', []), dict(type='PanelHook', folder=args.show_dir)]
        backends = (config.get('visualizer') or {}).get('vis_backends')
        config.visualizer = dict(type='InstanceLocalVisualizer', vis_backends=backends)
    if args.tta:
        if 'tta_pipeline' not in config or 'tta_model' not in config:
            raise SystemExit(f'--tta needs tta_pipeline and tta_model in {args.config}; see configs/_base_/datasets')
        config.model = ConfigDict(**config.tta_model, module=config.model)
        config.test_dataloader.dataset = with_pipeline(config.test_dataloader.dataset, config.tta_pipeline)
    runner = EvaluationRunner.from_cfg(config)
    drop_loop_hooks(runner)
    if args.out:
        runner.test_evaluator.metrics.append(DetectionsDump(args.out))
    if args.report:
        report = report_of(args)
        report.dataset_meta = runner.test_evaluator.dataset_meta
        runner.test_evaluator.metrics.append(report)
    runner.test()


def report_of(args: argparse.Namespace) -> HTMLReport:
    facts = {'config': args.config, 'checkpoint': args.checkpoint}
    if args.cfg_options:
        facts['settings'] = ', '.join(f'{key}={value}' for key, value in args.cfg_options.items())
    if args.amp:
        facts['precision'] = 'mixed'
    if args.tta:
        facts['flips and scales'] = 'those of the tta_pipeline'
    facts['mmseg_instancenet'] = __version__
    return HTMLReport(args.report, f'Test of {Path(args.config).stem}', facts)


if __name__ == '__main__':
    main()
