"""Trains the model of a config, in one process, on several GPUs or on several machines.

One process (CPU or one GPU)::

    python tools/train.py configs/instancenet_digits.py
    python tools/train.py configs/instancenet_r50_coco.py --amp
    python tools/train.py configs/instancenet_r50_coco.py --resume        # from the latest checkpoint of the work dir, if any
    python tools/train.py configs/instancenet_r50_coco.py --cfg-options train_dataloader.batch_size=2 load_from=None

A training that was killed goes on with ``--resume`` as if nothing had happened (docs/reliability.md). Ctrl-C and SIGTERM stop it
with a checkpoint, within an epoch too; the exit status is 130 or 143, by which a queue can start it again.

Eight GPUs of one machine, and two machines::

    bash tools/dist_train.sh configs/instancenet_r50_coco.py 8 --auto-scale-lr
    NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 bash tools/dist_train.sh configs/instancenet_r50_coco.py 8
    NNODES=2 NODE_RANK=1 MASTER_ADDR=10.0.0.1 bash tools/dist_train.sh configs/instancenet_r50_coco.py 8

Slurm::

    GPUS=16 bash tools/slurm_train.sh PARTITION JOB_NAME configs/instancenet_r50_coco.py work_dirs/instancenet_r50_coco
"""

import argparse

from mmengine.runner import Runner

from mmseg_instancenet.apis.command_line import (
    add_common_arguments,
    add_launcher,
    load_config,
    use_checkpoint_to_resume,
)
from mmseg_instancenet.engine import SettingsHook, check_settings, use_mixed_precision, use_resumable_training


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--amp', action='store_true', help='train in bfloat16 where the device has it, else in float16 on a GPU'
    )
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help="go on from a checkpoint; without a path from the latest of the work dir, or where there is none by the config's "
        'load_from',
    )
    add_common_arguments(parser)
    add_launcher(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = load_config(args)
    use_resumable_training(config)
    if args.amp:
        use_mixed_precision(config)
    if args.auto_scale_lr:
        if 'base_batch_size' not in config.get('auto_scale_lr', {}):
            raise SystemExit(f'--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in {args.config}')
        config.auto_scale_lr.enable = True
    if args.resume:
        use_checkpoint_to_resume(config, args.resume)
    runner = Runner.from_cfg(config)
    if not any(isinstance(hook, SettingsHook) for hook in runner.hooks):  # a config of mmseg's with mmseg's runtime
        runner.register_hook(SettingsHook())
    check_settings(runner)  # before train(), in which MMEngine makes schedules from the length of an epoch
    runner.train()


if __name__ == '__main__':
    main()
