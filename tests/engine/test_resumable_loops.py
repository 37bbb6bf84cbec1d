"""A training that was interrupted ends with the weights of one that was not."""

import os
import signal

import pytest
import torch
from mmengine.config import Config
from random_training import BATCH, SAMPLES, NoisySamples, noisy_runner

from mmseg_instancenet.engine import latest_whole_checkpoint, use_resumable_training

BY_EPOCH = dict(type='ResumableEpochLoop', max_epochs=4, val_interval=2)
BY_ITERATION = dict(type='ResumableIterLoop', max_iters=16, val_interval=8)


def weights(runner):
    return torch.cat([value.flatten() for value in runner.model.state_dict().values()]).tolist()


def train(folder, loop, sampler, workers=0, stop_at=None, number=signal.SIGTERM, **settings):
    """Trains; a signal in the iteration ``stop_at`` ends it. Returns the runner and the exit status, None for the end."""
    runner = noisy_runner(folder, loop, sampler, workers, **settings)
    runner.model.at_iteration = lambda iteration: iteration == stop_at and os.kill(os.getpid(), number)
    try:
        runner.train()
    except SystemExit as end:
        return runner, end.code
    return runner, None


@pytest.mark.parametrize(
    ('loop', 'sampler', 'workers', 'stop_at'),
    [
        (BY_EPOCH, 'DefaultSampler', 0, 1),  # within the first epoch
        (BY_EPOCH, 'DefaultSampler', 0, 7),  # in the last iteration of the second, before a validation
        (BY_EPOCH, 'DefaultSampler', 2, 9),
        (BY_ITERATION, 'InfiniteSampler', 0, 7),
        (BY_ITERATION, 'InfiniteSampler', 1, 9),
        (BY_ITERATION, 'DefaultSampler', 0, 9),
    ],
)
def test_an_interrupted_training_goes_on_exactly(tmp_path, loop, sampler, workers, stop_at, monkeypatch):
    # MMEngine waits for two seconds between passes.
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)
    whole, _ = train(tmp_path / 'whole', loop, sampler)
    _, status = train(tmp_path / 'parts', loop, sampler, workers, stop_at=stop_at)
    assert status == 128 + signal.SIGTERM
    checkpoint, _ = latest_whole_checkpoint(tmp_path / 'parts')
    assert torch.load(checkpoint, weights_only=True)['meta']['iter'] == stop_at + 1
    resumed, _ = train(tmp_path / 'parts', loop, sampler, workers, resume=True, load_from=checkpoint)
    assert weights(resumed) == weights(whole)
    if not workers:
        # No sample of the iterations before is loaded again.
        assert len(resumed.train_dataloader.dataset.loaded) == (16 - stop_at - 1) * BATCH


def test_epochs_see_each_sample_once_with_noise_of_its_own(tmp_path):
    """Against the definition: the generators are seeded by (seed, epoch, index)."""
    runner, _ = train(tmp_path, BY_EPOCH, 'DefaultSampler')
    seen = {}
    for epoch in range(3):
        runner.train_dataloader.batch_sampler.pass_number = epoch
        for batch in runner.train_dataloader:
            for index, *noise in batch['inputs'].tolist():
                seen[epoch, int(index)] = noise
    assert sorted(seen) == [(epoch, index) for epoch in range(3) for index in range(SAMPLES)]
    assert len({tuple(noise) for noise in seen.values()}) == 3 * SAMPLES


def test_a_worker_more_changes_no_sample(tmp_path):
    none, _ = train(tmp_path / 'none', BY_EPOCH, 'DefaultSampler')
    two, _ = train(tmp_path / 'two', BY_EPOCH, 'DefaultSampler', workers=2)
    assert weights(none) == weights(two)


@pytest.mark.parametrize('random_draws', [0, 5])
def test_random_numbers_of_a_validation_change_no_training(tmp_path, random_draws):
    """Its seed alone decides: the weights are the same whatever a hook draws meanwhile."""
    runner = noisy_runner(tmp_path / str(random_draws), BY_EPOCH)
    evaluate = runner.val_loop.evaluator.evaluate

    def drawing(size):
        torch.rand(random_draws)
        return evaluate(size)

    runner.val_loop.evaluator.evaluate = drawing
    runner.train()
    reference, _ = train(tmp_path / 'reference', BY_EPOCH, 'DefaultSampler')
    assert weights(runner) == weights(reference)


@pytest.mark.parametrize(
    ('train_cfg', 'expected'),
    [
        (dict(by_epoch=True, max_epochs=3), dict(type='ResumableEpochLoop', max_epochs=3)),
        (dict(by_epoch=False, max_iters=3), dict(type='ResumableIterLoop', max_iters=3)),
        (dict(type='EpochBasedTrainLoop', max_epochs=3), dict(type='ResumableEpochLoop', max_epochs=3)),
        (dict(type='IterBasedTrainLoop', max_iters=3), dict(type='ResumableIterLoop', max_iters=3)),
        (dict(type='LoopOfAUser', max_iters=3), dict(type='LoopOfAUser', max_iters=3)),
    ],
)
def test_loops_of_mmengine_are_replaced(train_cfg, expected):
    config = Config(dict(train_cfg=train_cfg))
    use_resumable_training(config)
    assert config.train_cfg == expected
    assert config.default_hooks.checkpoint == dict(type='AtomicCheckpointHook', interval=1)


@pytest.mark.parametrize(
    ('checkpoint', 'expected'),
    [
        (dict(type='CheckpointHook', interval=5), dict(type='AtomicCheckpointHook', interval=5)),
        (dict(type='HookOfAUser'), dict(type='HookOfAUser')),
        (None, None),
    ],
)
def test_the_checkpoint_hook_of_mmengine_is_replaced(checkpoint, expected):
    config = Config(dict(train_cfg=dict(by_epoch=True), default_hooks=dict(checkpoint=checkpoint)))
    use_resumable_training(config)
    assert config.default_hooks.checkpoint == expected


def test_a_data_set_keeps_its_attributes(tmp_path):
    runner = noisy_runner(tmp_path, BY_EPOCH)
    dataset = runner.train_dataloader.dataset
    assert dataset.metainfo is NoisySamples.metainfo
    dataset.pipeline = 'another'  # as mmdet's PipelineSwitchHook
    assert dataset.dataset.pipeline == 'another'
