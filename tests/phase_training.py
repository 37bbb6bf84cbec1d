"""Trainings in two phases in several processes: what each process has of the weights before each iteration."""

from pathlib import Path

import torch
from batch_shares import IMAGES, boundary, digits, make_batch
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch.utils.data import Dataset

from mmseg_instancenet.engine import BoundaryPhaseHook, FreezeHook, register_safe_loaders

EPOCHS, UNTIL = 4, 2
RESUMED_AFTER = (1, 2, 3)
"""Epochs of the training that goes on: before, at and after the switch."""
KINDS = {
    'FreezeHook': (lambda: FreezeHook('backbone', until=UNTIL), digits, 'backbone'),
    'BoundaryPhaseHook': (lambda: BoundaryPhaseHook(until=UNTIL), boundary, 'decode_head.conv_seg'),
}
"""The hook, the config of the model, and the part that is frozen in the first phase."""


class Shapes(Dataset):
    """The images and labels of batch_shares.py."""

    def __init__(self, boundaries: bool) -> None:
        images, self.samples = make_batch(boundaries)
        self.images = (images * 50 + 128).clamp(0, 255).byte()

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict:
        return {'inputs': self.images[index], 'data_samples': self.samples[index].clone()}


class _Parameters(Hook):
    """The parameters before each iteration and at the end, as one vector for the frozen part and one for the rest."""

    def __init__(self, frozen: str) -> None:
        self.frozen, self.frozen_I, self.others_I = frozen, [], []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        parts: dict[bool, list] = {True: [], False: []}
        for name, value in runner.model.module.named_parameters():
            parts[name.startswith(self.frozen)].append(value.detach().flatten())
        self.frozen_I.append(torch.cat(parts[True]))
        self.others_I.append(torch.cat(parts[False]))

    def after_train(self, runner: Runner) -> None:
        self.before_train_iter(runner, 0)


def train_in_phases(folder: Path, kind: str) -> list[list[torch.Tensor]]:
    """The vectors of a training of one process of a group, [frozen part, others], each (iterations + 1, values): of a whole
    training, and of those that go on after ``RESUMED_AFTER`` epochs."""
    init_default_scope('mmseg')
    register_safe_loaders()
    return [_train(folder, kind, epoch) for epoch in (None, *RESUMED_AFTER)]


def _train(folder: Path, kind: str, resumed_after: int | None) -> list[torch.Tensor]:
    make_hook, make_config, frozen = KINDS[kind]
    torch.manual_seed(0)
    model = dict(make_config(), data_preprocessor=dict(digits()['data_preprocessor']))
    if kind == 'BoundaryPhaseHook':
        model['decode_head']['loss_decode'] = dict(type='BalancedLogisticLoss')
    parameters = _Parameters(frozen)
    whole = Path(folder, kind)
    runner = Runner(
        MODELS.build(model),
        work_dir=str(whole if resumed_after is None else f'{whole}_{resumed_after}'),
        train_dataloader=dict(
            dataset=Shapes(kind == 'BoundaryPhaseHook'), batch_size=2, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='pseudo_collate'),
        ),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        train_cfg=dict(by_epoch=True, max_epochs=EPOCHS),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=100)),
        custom_hooks=[parameters, make_hook()],
        randomness=dict(seed=0),
        launcher='pytorch',
        default_scope='mmseg',
        log_level='WARNING',
        experiment_name=f'{kind}_{resumed_after}',
        cfg=dict(model_wrapper_cfg=dict(type='CPUDistributedDataParallel', broadcast_buffers=False)),
        load_from=None if resumed_after is None else f'{whole}/epoch_{resumed_after}.pth',
        resume=resumed_after is not None,
    )  # fmt: skip
    runner.train()
    return [torch.stack(parameters.frozen_I), torch.stack(parameters.others_I)]
