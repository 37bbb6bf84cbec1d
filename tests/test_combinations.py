"""Either loss with either grouper: a user swaps one line of a config, and the digits train and are tested."""

import copy
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_instancenet.datasets.digits import write_digits

CONFIGS = Path(__file__).parents[1] / 'configs'

# What the head and its scorer need beside the loss, for embeddings in space and on a sphere.
LOSSES = {
    'DiscriminativeLoss': dict(type='DiscriminativeLoss', class_agnostic=True, loss_weight=0.1),
    'SphericalPairLoss': dict(type='SphericalPairLoss', variant='released', background_is_instance=False),
}
GROUPERS = {
    ('DiscriminativeLoss', 'CenterGrouping'): dict(threshold=1.2),
    ('DiscriminativeLoss', 'MeanShiftGrouping'): dict(kernel='norm', concentration=1.0),
    ('SphericalPairLoss', 'CenterGrouping'): dict(distance='cosine', threshold=0.2),
    ('SphericalPairLoss', 'MeanShiftGrouping'): dict(concentration=100),
}


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp('digits')
    write_digits(folder, num_train=16, num_val=2)
    return folder


def train_and_test(name: str, model: dict, digits: Path, work_dir: Path) -> None:
    """Two iterations of eight images, then the metrics on two."""
    config = Config.fromfile(CONFIGS / f'{name}.py')
    config.merge_from_dict({'model': model})
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.data_root = str(digits)
    config.work_dir, config.experiment_name = str(work_dir), work_dir.name
    config.train_cfg.update(max_epochs=1, val_interval=2)
    config.param_scheduler = []
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1)
    config.default_hooks.logger.interval = 1
    config.log_level = 'ERROR'
    runner = Runner.from_cfg(config)
    before = copy.deepcopy(runner.model.state_dict())
    runner.train()
    for key, value in runner.model.named_parameters():
        assert torch.isfinite(value).all(), key
        assert not torch.equal(value, before[key]), key
    history = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(history) == 2 and all(math.isfinite(value) and value > 0 for value in history)
    metrics = runner.test()
    assert 0 <= metrics['coco/segm_mAP'] <= 1
    assert 0 <= metrics['mIoU'] <= 100


@pytest.mark.parametrize(('loss', 'grouper'), GROUPERS)
def test_either_loss_with_either_grouper(loss, grouper, digits, tmp_path):
    settings = dict(type=grouper, class_agnostic=True, min_size=10, **GROUPERS[loss, grouper])
    head = dict(unit_length=loss == 'SphericalPairLoss', loss_embedding=dict(_delete_=True, **LOSSES[loss]))
    train_and_test(
        'instancenet_digits', dict(decode_head=head, grouper=dict(_delete_=True, **settings)), digits, tmp_path
    )


def test_soft_masks_with_seeds(digits, tmp_path):
    head = dict(pixels_per_unit=8.0, loss_embedding=dict(_delete_=True, type='SoftMaskLoss', loss_weight=0.1))
    grouper = dict(_delete_=True, type='SeedGrouping', class_agnostic=True, min_size=10)
    scorer = dict(_delete_=True, type='SeedScorer')
    model = dict(decode_head=head, grouper=grouper, group_scorer=scorer)
    train_and_test('instancenet_digits', model, digits, tmp_path)


@pytest.mark.parametrize('loss', LOSSES)
def test_either_loss_through_loops(loss, digits, tmp_path):
    grouping = dict(type='MeanShiftGrouping', class_agnostic=True, min_size=10, **GROUPERS[loss, 'MeanShiftGrouping'])
    recurrent = dict(type='RecurrentLoss', loss=LOSSES[loss], grouping=grouping, loops=2, foreground_only=True)
    head = dict(unit_length=loss == 'SphericalPairLoss', loss_embedding=dict(_delete_=True, **recurrent))
    train_and_test(
        'instancenet_digits', dict(decode_head=head, grouper=dict(_delete_=True, **grouping)), digits, tmp_path
    )


def test_with_the_background_as_a_group(digits, tmp_path):
    head = dict(loss_embedding=dict(max_pixels=256))
    model = dict(decode_head=head, grouper=dict(max_loops=3))
    train_and_test('recurrent-embedding_background_digits', model, digits, tmp_path)
