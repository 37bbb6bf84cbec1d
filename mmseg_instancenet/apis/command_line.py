"""Arguments and config loading of the command-line tools."""

import argparse
import os
import os.path as osp

import torch
from mmengine.config import Config, DictAction

from ..engine import damage, latest_whole_checkpoint, load_weights_only, register_safe_loaders
from .tuned_settings import merge_tuned_settings


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; work_dirs/NAME_OF_CONFIG unless given')
    add_config_options(parser)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings in place of the config\'s: key=value, nested keys joined by dots, lists as key="[a,b]"',
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """For tools that work in several processes."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # torch.distributed.launch passes it
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Loads ``args.config`` and merges those of the arguments above into it that the tool has. The work dir comes from the
    command line, else from the config, else from the config's name.

    SystemExit where ``torchrun`` started several processes and no ``--launcher`` says so: each would be a run of its own, all
    with the same files.

    From here on MMEngine reads checkpoints without running code from them (:func:`register_safe_loaders`).
    """
    register_safe_loaders()
    launcher = getattr(args, 'launcher', 'none')
    _check_launcher(launcher)
    if launcher != 'none':
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not osp.isfile(args.config):
        raise SystemExit(f'config not found: {args.config}')
    config = Config.fromfile(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    config.launcher = launcher
    if work_dir := getattr(args, 'work_dir', None):
        config.work_dir = work_dir
    elif config.get('work_dir') is None:
        config.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    if launcher != 'none':
        _average_buffers(config)
    if launcher == 'pytorch' and not torch.cuda.is_available():
        _distribute_on_cpu(config)
    return config


def load_config_of_checkpoint(args: argparse.Namespace) -> Config:
    """:func:`load_config` for tools that test ``args.checkpoint``, with the settings that were tuned for it
    (:func:`merge_tuned_settings`); SystemExit if their json is damaged."""
    config = load_config(args)
    try:
        merge_tuned_settings(config, args.checkpoint, args.cfg_options)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    return config


def _check_launcher(launcher: str) -> None:
    count = int(os.environ.get('WORLD_SIZE', '1'))
    if launcher == 'none' and 'RANK' in os.environ and count > 1:
        raise SystemExit(
            f'torchrun started {count} processes, each of which would do the whole work and write the same files: give '
            'tools/train.py and tools/test.py --launcher pytorch, as tools/dist_train.sh and tools/dist_test.sh do, and start '
            'the other tools in one process'
        )


def _average_buffers(config: Config) -> None:
    """Averages the statistics of batch norm over the processes before each validation."""
    config.setdefault('default_hooks', {}).setdefault('sync_buffers', dict(type='AverageBuffersHook'))


def _distribute_on_cpu(config: Config) -> None:
    """Starts the process group of several CPU processes before MMEngine, whose own start requires CUDA devices."""
    torch.distributed.init_process_group(backend='gloo')
    config.model_wrapper_cfg = dict(type='CPUDistributedDataParallel', broadcast_buffers=False)


def use_checkpoint_to_resume(config: Config, checkpoint: str) -> None:
    """Sets ``resume`` and ``load_from`` of a config, as MMEngine's runner reads them.

    Where there is nothing to resume yet, as in the first start of a job that is always started with ``--resume``, the config's
    ``load_from`` counts. A config without a seed gets the one of the checkpoint, so that the data keep their order.

    Args:
        config: with its ``work_dir``.
        checkpoint: file or address; 'auto' for the latest whole checkpoint of the work dir
            (:func:`~..engine.latest_whole_checkpoint`).

    Raises:
        SystemExit: if ``checkpoint`` is a file that is damaged.
    """
    if checkpoint == 'auto':
        latest, left_out = latest_whole_checkpoint(config.work_dir)
        for name, why in left_out.items():
            print(f'--resume: {name} is damaged and left out: {why}')
        if latest is None:
            config.resume = False
            print(
                f'--resume: no checkpoint in {config.work_dir} yet; the training begins with load_from={config.get("load_from")}'
            )
            return
        checkpoint = latest
    elif osp.isfile(checkpoint) and (reason := damage(checkpoint)):
        raise SystemExit(
            f'--resume: {checkpoint} is damaged: {reason}. --resume without a file takes the latest whole one'
        )
    config.resume, config.load_from = True, checkpoint
    randomness = config.get('randomness') or {}
    if randomness.get('seed') is None and osp.isfile(checkpoint):
        seed = load_weights_only(checkpoint, map_location='meta').get('meta', {}).get('seed')
        config.randomness = {**randomness, 'seed': seed}
