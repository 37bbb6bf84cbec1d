"""Curves from the metrics into the log of a run, and from there into an image."""

import json
import math
import runpy
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from programs import run_program
from references.mask_cases import predict_rows, write_rows
from torch import nn
from torch.utils.data import Dataset

TOOL = Path(__file__).parents[2] / 'tools/analysis/plot_curves.py'
CLASSES = ('cat', 'dog')
TRUTH = [0, 0, 0, 0, 255, 1, 1, 1, 1, 1]
PREDICTED = [0, 0, 0, 1, 1, 0, 1, 1, 1, 1]


class Answers(BaseModel):
    """Gives the same answer to every image."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='tensor'):
        if mode == 'loss':
            return {'loss': self.weight.square().sum()}
        sample = predict_rows(1, [(1, 0.9, '####......'), (0, 0.8, '###.......'), (1, 0.7, '.....####.')])
        maps = {name: {'data': torch.tensor(row)[None, None]} for name, row in (('gt', TRUTH), ('pred', PREDICTED))}
        return [sample | {f'{name}_sem_seg': value for name, value in maps.items()}]


class OneImage(Dataset):
    metainfo = {'classes': CLASSES}

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {'inputs': torch.zeros(1)}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The runner of a training with a validation, and of a test after it."""
    folder = tmp_path_factory.mktemp('curves')
    ann_file = write_rows(folder, {1: [('cat', '####......'), ('dog', '.....#####')]}, CLASSES)
    loader = {'dataset': OneImage(), 'batch_size': 1, 'collate_fn': {'type': 'default_collate'}}
    loader['sampler'] = {'type': 'DefaultSampler', 'shuffle': False}
    evaluator = [{'type': 'TrimapIoUMetric', 'max_width': 4, 'reported': (2,)}]
    evaluator.append({'type': 'ProposalRecallMetric', 'ann_file': ann_file})
    runner = Runner(
        Answers(),
        work_dir=str(folder / 'run'),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}},
        train_cfg={'by_epoch': True, 'max_epochs': 1, 'val_interval': 1},
        val_cfg={},
        test_cfg={},
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        default_hooks={
            'checkpoint': {'type': 'CheckpointHook', 'save_best': 'auto', 'rule': 'greater'},
            'plain_log': {'type': 'PlainLogHook'},
        },
        default_scope='mmseg',
        log_level='WARNING',
        experiment_name='curves',
    )
    runner.train()
    runner.test()
    return runner


def log_of(runner) -> Path:
    return Path(runner.log_dir) / f'{runner.timestamp}.json'


def test_the_log_of_a_test_has_the_whole_curves(run):
    metrics = json.loads(log_of(run).read_text())
    # Distances 4 3 2 1 - 1 2 3 4 5, pixels 3 and 5 are wrong.
    assert metrics['trimap/curve'] == {
        'pixels on each side of a boundary': [1, 2, 3, 4],
        'mIoU, %': [0, 33.33, 50, 60],
    }
    assert metrics['trimap/mIoU_2'] == 33.33
    recall = metrics['proposal/curve']
    assert list(recall) == ['proposals an image', 'AR', 'AR50', 'AR_random', 'AR50_random']
    assert recall['proposals an image'] == [1, 2, 3]
    assert recall['AR'] == [0.5, 0.5, 0.85] and recall['AR50'] == [0.5, 0.5, 1]
    assert recall['AR'][-1] == recall['AR_random'][-1] == metrics['proposal/AR@10']


def test_a_validation_takes_curves_too(run):
    """save_best='auto' finds a number, and checkpoints hold plain values alone."""
    work_dir = Path(run.work_dir)
    assert [path.name for path in work_dir.glob('best_*')] == ['best_trimap_mIoU_2_epoch_1.pth']
    state = torch.load(work_dir / 'best_trimap_mIoU_2_epoch_1.pth', weights_only=True)
    assert state['message_hub']['runtime_info']['val/trimap/curve']['mIoU, %'] == [0, 33.33, 50, 60]
    lines = (Path(run.log_dir) / 'vis_data/scalars.json').read_text().splitlines()
    assert any(json.loads(line).get('trimap/mIoU_2') == 33.33 for line in lines)


def test_the_tool_draws_every_curve_of_a_log(run, tmp_path):
    output = run_program(TOOL, log_of(run), '--out', tmp_path / 'new', '--log-x')
    images = [tmp_path / 'new' / f'{name}_curve.png' for name in ('trimap', 'proposal')]
    assert output.splitlines() == list(map(str, images))
    assert all(cv2.imread(str(path)).min() < 100 for path in images)  # no blank pages


def test_the_tool_names_what_it_does_not_find(run, tmp_path):
    output = run_program(TOOL, log_of(run), '--keys', 'a/b', succeeds=False)
    assert 'expected some of trimap/curve, proposal/curve, got a/b' in output
    (tmp_path / 'plain.json').write_text(json.dumps({'mIoU': math.pi}))
    read_tables = runpy.run_path(str(TOOL))['read_tables']
    for log, message in (
        (tmp_path / 'none.json', f'log not found: {tmp_path}/none.json'),
        (tmp_path / 'plain.json', 'has no curve, only mIoU: add TrimapIoUMetric'),
        (Path(run.log_dir) / 'vis_data/scalars.json', 'expected the json file of one test'),
    ):
        with pytest.raises(SystemExit, match=message):
            read_tables(log)
