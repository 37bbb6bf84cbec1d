"""A training in which everything is random: the order of the samples, the samples, and the loss."""

import random
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmseg_instancenet  # noqa: F401  (registers loops and hooks)

SAMPLES, BATCH = 8, 2


class NoisySamples(Dataset):
    """Samples of noise from the three generators; ``loaded`` has the indices that this process has loaded."""

    metainfo = {'classes': ('cat',)}

    def __init__(self) -> None:
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict:
        self.loaded.append(int(index))
        noise = [random.random(), np.random.rand(), torch.rand(()).item()]
        return {'inputs': torch.tensor([float(index), *noise])}


class NoisyNetwork(BaseModel):
    """Batch norm and a layer with dropout.

    ``at_iteration`` may be set to a function that each training iteration calls with its number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.layer = nn.Linear(4, 1)
        self.iteration = 0
        self.at_iteration: Any = lambda iteration: None

    def forward(self, inputs: torch.Tensor, mode: str = 'tensor') -> Any:
        values = self.layer(self.norm(inputs))
        if mode == 'predict':
            return [{'score': value.item()} for value in values]
        self.at_iteration(self.iteration)
        self.iteration += 1
        noise = random.random() + np.random.rand()
        return {'loss': nn.functional.dropout(values, 0.5).square().mean() * (1 + noise)}


class MeanScore(BaseMetric):
    """Mean of the predictions; ``calls`` counts the validations of this process that have ended."""

    calls = 0

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [sample['score'] for sample in data_samples]

    def compute_metrics(self, results: list) -> dict:
        type(self).calls += 1
        return {'mean': float(np.mean(results))}


def noisy_runner(
    work_dir: Path, loop: dict, sampler: str = 'DefaultSampler', workers: int = 0, **settings: Any
) -> Runner:
    """A runner of batches of two from eight samples; after each epoch (or four iterations) a checkpoint, two are kept."""
    by_epoch = 'max_epochs' in loop
    torch.manual_seed(0)  # of the first weights
    validation = dict(
        dataset=NoisySamples(),
        batch_size=4,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    return Runner(
        NoisyNetwork(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=NoisySamples(),
            batch_size=BATCH,
            num_workers=workers,
            sampler=dict(type=sampler, shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        val_dataloader=validation,
        val_evaluator=[MeanScore()],
        val_cfg=dict(type='ValLoop'),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        train_cfg=loop,
        default_hooks=dict(
            checkpoint=dict(
                type='AtomicCheckpointHook',
                interval=1 if by_epoch else 4,
                by_epoch=by_epoch,
                max_keep_ckpts=2,
                save_best='mean',
                rule='greater',
            ),
            plain_log=dict(type='PlainLogHook'),
        ),
        default_scope='mmseg',
        log_level='WARNING',
        randomness=dict(seed=3),
        experiment_name=f'{work_dir}{uuid.uuid4()}',  # MMEngine keeps one log for each name
        **settings,
    )
