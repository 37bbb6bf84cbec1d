"""Loads a trained model and its images for tools that run it outside MMEngine's loops."""

import os.path as osp
from collections.abc import Sized
from typing import Any, cast

import numpy as np
from mmengine.config import Config
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import EarlyStoppingHook, EMAHook, LoggerHook, ProfilerHook
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Subset


class EvaluationRunner(Runner):
    """MMEngine's runner for a test, whose config is written beside the results of the run, and whose metrics by one process.

    MMEngine's own writes it into the work dir, in place of the config of the training, which :func:`config_in` reads: options
    of a test and settings tuned for one checkpoint would from then on belong to all checkpoints of the training. Its
    ``LoggerHook`` writes the metrics of a test in each process, all into one file.
    """

    @master_only
    def dump_config(self) -> None:
        name = osp.basename(self.cfg.filename) if self.cfg.filename else f'{self.timestamp}.py'
        self.cfg.dump(osp.join(self.log_dir, name))

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        super().register_hooks(default_hooks, custom_hooks)
        if not is_main_process():
            self.hooks[:] = [hook for hook in self.hooks if not isinstance(hook, LoggerHook)]


def load_for_analysis(config: Config, checkpoint: str) -> Runner:
    """Builds a runner whose model has the weights of a checkpoint and is in evaluation mode.

    The weights are those that ``tools/test.py`` takes. Of a training with ``EMAHook`` they are the averaged ones: the hook
    writes these to ``state_dict`` of the checkpoint, and the last weights of the training to ``ema_state_dict``. The hook makes
    its copy of the model in ``before_run``, which only MMEngine's loops call, and fails without the copy as soon as a checkpoint
    is loaded. It is therefore called here.

    Args:
        config: of the tool; ``load_from`` and ``resume`` are set. (With ``resume`` the hook would swap the weights back.)
        checkpoint: file or address.
    """
    config.load_from, config.resume = checkpoint, False
    runner = EvaluationRunner.from_cfg(config)
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            hook.before_run(runner)
    runner.load_or_resume()
    runner.model.eval()
    return runner


def drop_loop_hooks(runner: Runner) -> None:
    """Removes the hooks that build the training loop in any run: for a test, MMEngine would build the training set, and
    fail if it is missing."""
    runner.hooks[:] = [hook for hook in runner.hooks if not isinstance(hook, (EarlyStoppingHook, ProfilerHook))]


def images_of(dataset: dict) -> dict:
    """Config of the data set that reads the images: the inner one of a wrapper such as mmdet's MultiImageMixDataset,
    the first one of several joined by ConcatDataset."""
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def with_pipeline(dataset: dict, pipeline: list[dict], **settings: Any) -> dict:
    """Config of the images of a data set, without repetitions, with another pipeline.

    A wrapper that repeats, balances or mixes images is left away; data sets that are joined stay so.

    Args:
        dataset: config, which stays as it is.
        pipeline: of each data set that reads images.
        **settings: of each data set that reads images, in place of its own.

    Example:
        >>> twice = dict(type='RepeatDataset', times=2, dataset=dict(type='CocoInstanceDataset', pipeline=['load', 'crop']))
        >>> with_pipeline(twice, ['load'], test_mode=True)
        {'type': 'CocoInstanceDataset', 'pipeline': ['load'], 'test_mode': True}
    """
    if 'dataset' in dataset:
        return with_pipeline(dataset['dataset'], pipeline, **settings)
    changed = dataset.copy()
    if 'datasets' in dataset:
        changed.update(datasets=[with_pipeline(one, pipeline, **settings) for one in dataset['datasets']])
    else:
        changed.update(pipeline=pipeline, **settings)
    return changed


def training_set_for_testing(config: Config) -> dict:
    """Config of the training set with the test pipeline: each image once, for joined sets the images of all of them."""
    pipeline = images_of(config.test_dataloader.dataset)['pipeline']
    return with_pipeline(config.train_dataloader.dataset, pipeline, test_mode=True)


def spread(dataloader: DataLoader, count: int) -> DataLoader:
    """A dataloader over ``count`` images of a set, evenly spaced in it, or over all images of a smaller set."""
    total = len(cast(Sized, dataloader.dataset))  # torch's Dataset may have no length; those of MMEngine have one
    indices = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
    return DataLoader(
        Subset(dataloader.dataset, indices),
        batch_size=dataloader.batch_size,
        num_workers=dataloader.num_workers,
        collate_fn=dataloader.collate_fn,
    )
