"""A training of three numbers for four iterations, and its checkpoints.

The two files in ``checkpoints/`` were written by this script, half way through, with the version of torch that their name gives::

    python tests/engine/small_training.py tests/engine/checkpoints/torch-2.5.1.pth            # as MMEngine 0.10.7 writes it
    python tests/engine/small_training.py tests/engine/checkpoints/torch-2.15.0.pth --plain   # with PlainLogHook
"""

import argparse
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmseg_instancenet  # noqa: F401  (registers PlainLogHook)


class Network(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        return {'loss': self.layer(inputs).square().mean(), 'acc': inputs.mean()}


class Points(Dataset):
    metainfo = {'classes': ('cat', 'dog'), 'palette': [(1, 2, 3), (4, 5, 6)]}

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {'inputs': torch.full((2,), float(index))}


def make_runner(work_dir, plain, shuffle=True, max_epochs=2, **settings) -> Runner:
    """A runner for two iterations an epoch; its checkpoints come from ``runner.save_checkpoint`` alone."""
    torch.manual_seed(0)
    hooks = {'logger': {'type': 'LoggerHook', 'interval': 1}, 'checkpoint': None}
    if plain:
        hooks['plain_log'] = {'type': 'PlainLogHook'}
    return Runner(
        Network(),
        work_dir=str(work_dir),
        train_dataloader={
            'dataset': Points(),
            'batch_size': 2,
            'sampler': {'type': 'DefaultSampler', 'shuffle': shuffle},
            'collate_fn': {'type': 'default_collate'},
        },
        optim_wrapper={'optimizer': {'type': 'Adam', 'lr': 0.1}},
        param_scheduler={'type': 'PolyLR', 'power': 0.9, 'begin': 0, 'end': 4, 'by_epoch': False},
        train_cfg={'by_epoch': True, 'max_epochs': max_epochs},
        default_hooks=hooks,
        default_scope='mmseg',
        log_level='WARNING',
        experiment_name=str(work_dir),  # MMEngine keeps one log for each name
        **settings,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', type=Path)
    parser.add_argument('--plain', action='store_true', help='with PlainLogHook')
    args = parser.parse_args()
    runner = make_runner('work_dirs/small_training', args.plain, shuffle=False, max_epochs=1)
    runner.train()
    # The runner counts the epoch up after its hooks, by which checkpoints are written otherwise.
    runner.save_checkpoint(str(args.file.parent), args.file.name, meta={'epoch': runner.epoch, 'iter': runner.iter})


if __name__ == '__main__':
    main()
