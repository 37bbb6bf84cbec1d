"""A small network for digits, trained for a few iterations with a moving average of its weights."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmseg_instancenet.datasets.digits import write_digits

MOMENTUM = 0.2
CONFIG = """
_base_ = ['{root}/configs/instancenet_digits.py']
model = dict(
    backbone=dict(base_channels=4),
    decode_head=dict(in_channels=4, channels=8),
    test_cfg=dict(classes='ground_truth'),  # a few iterations find no digit by themselves
)
train_dataloader = dict(dataset=dict(data_root='{folder}/data/'))
val_dataloader = dict(dataset=dict(data_root='{folder}/data/'))
test_dataloader = val_dataloader
optim_wrapper = dict(clip_grad=None)
param_scheduler = []
train_cfg = dict(max_epochs=1, val_interval=5)
default_hooks = dict(checkpoint=dict(save_best=None))
custom_hooks = [
    dict(type='LoadReportHook'),
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum={momentum}),
]
test_evaluator = [dict(type='CountingMetric'), dict(type='CocoInstanceMetric', metric=['segm'])]
val_evaluator = test_evaluator
"""


class PlainAverage(Hook):
    """The average of the parameters after each iteration, by its formula: the first value, then 0.8 a + 0.2 p."""

    def __init__(self) -> None:
        self.average = None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        now = {name: value.detach().clone() for name, value in runner.model.named_parameters()}
        if self.average is None:
            self.average = now
        for name, value in now.items():
            self.average[name] = (1 - MOMENTUM) * self.average[name] + MOMENTUM * value


def train_ema_digits(folder: Path, num_train: int = 48, more: str = '') -> dict:
    """Writes data, config and checkpoint: their paths as ``config`` and ``checkpoint``; ``average`` and ``last``, the weights.

    Args:
        folder: to write to.
        num_train: images of the training set, 8 an iteration.
        more: lines of the config.
    """
    write_digits(folder / 'data', num_train=num_train, num_val=6)
    path = folder / 'ema.py'
    path.write_text(CONFIG.format(root=Path(__file__).parents[1], folder=folder, momentum=MOMENTUM) + more)
    init_default_scope('mmseg')  # a fixture of a module comes before that of conftest.py
    config = Config.fromfile(path)
    config.work_dir, config.experiment_name = str(folder / 'run'), str(folder)
    runner, plain = Runner.from_cfg(config), PlainAverage()
    runner.register_hook(plain, 'LOW')
    runner.train()
    last = {name: value.detach().clone() for name, value in runner.model.named_parameters()}
    average = {name: value.cpu() for name, value in plain.average.items()}
    assert any(not torch.equal(average[name], value.cpu()) for name, value in last.items())
    return dict(folder=folder, config=path, checkpoint=folder / 'run/epoch_1.pth', average=average, last=last)
