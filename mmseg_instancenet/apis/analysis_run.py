"""A trained model for the tools that run it outside MMEngine's loops, and the images that they look at."""

import numpy as np
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Subset


def load_for_analysis(config: Config, checkpoint: str) -> Runner:
    """A runner whose model has the weights of a checkpoint and is in evaluation mode.

    The weights are those that ``tools/test.py`` takes. Of a training with ``EMAHook`` they are the averaged ones: the hook
    writes these to ``state_dict`` of the checkpoint, and the last weights of the training to ``ema_state_dict``. The hook makes
    its copy of the model in ``before_run``, which only MMEngine's loops call, and fails without the copy as soon as a checkpoint
    is loaded. It is therefore called here.

    Args:
        config: of the tool; ``load_from`` and ``resume`` are set. (With ``resume`` the hook would swap the weights back.)
        checkpoint: file or address.
    """
    config.load_from, config.resume = checkpoint, False
    runner = Runner.from_cfg(config)
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            hook.before_run(runner)
    runner.load_or_resume()
    runner.model.eval()
    return runner


def images_of(dataset: dict) -> dict:
    """Config of the data set that reads images: of a wrapper, such as mmdet's MultiImageMixDataset, the one that it holds."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def training_set_for_testing(config: Config) -> dict:
    """Config of the training set with the pipeline of testing; of a set that mixes images, its images one by one."""
    training_set = images_of(config.train_dataloader.dataset).copy()
    training_set.update(pipeline=config.test_dataloader.dataset.pipeline, test_mode=True)
    return training_set


def spread(dataloader: DataLoader, count: int) -> DataLoader:
    """A dataloader over ``count`` images of a set, evenly spread over it, or over all of a smaller one."""
    total = len(dataloader.dataset)
    indices = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
    return DataLoader(
        Subset(dataloader.dataset, indices),
        batch_size=dataloader.batch_size,
        num_workers=dataloader.num_workers,
        collate_fn=dataloader.collate_fn,
    )
