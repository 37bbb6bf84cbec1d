"""Finds config and checkpoint of a model from a user's input: a shipped model, a folder of a training, a config file."""

import os.path as osp
from pathlib import Path

from mmengine.config import Config

from . import shipped


def config_and_checkpoint(
    config: str | Path | Config, checkpoint: str | None = None
) -> tuple[str | Path | Config, str | None]:
    """Replaces the name of a shipped model, or the folder of a training, by its config and checkpoint; other arguments
    are returned unchanged.

    Args:
        config: name of a shipped model, folder of a training, config file, or what was read from one.
        checkpoint: file or address; it takes the place of the shipped weights and of the checkpoint in the folder.

    Raises:
        FileNotFoundError: if a string is neither the name of a shipped model nor a folder nor a file, or a folder is not one
            of a training.
    """
    if isinstance(config, Config):
        return config, checkpoint
    if config in shipped.shipped_models():
        return str(shipped.FOLDER / f'{config}.py'), checkpoint or str(shipped.FOLDER / f'{config}.pth')
    path = Path(config).expanduser()
    if config != '' and path.is_dir():
        return str(config_in(path)), checkpoint or str(checkpoint_in(path))
    if isinstance(config, str) and not path.is_file():
        names = ', '.join(shipped.shipped_models()) or 'there is none'
        raise FileNotFoundError(
            f'expected the name of a shipped model ({names}), a config file or the folder of a training, got {config!r}: '
            'there is no such model, no such file and no such folder'
        )
    return config, checkpoint


def config_in(work_dir: Path) -> Path:
    """Finds the config that MMEngine's runner has written into the folder of a training.

    Raises:
        FileNotFoundError: if there is none, or more than one.
    """
    configs = sorted(path for path in work_dir.glob('*.py') if not path.stem.endswith('_tuned'))
    if len(configs) != 1:
        found = ', '.join(path.name for path in configs) or 'none'
        raise FileNotFoundError(
            f'{work_dir}: expected the folder of a training, with one config file, got {found}; name the config and the '
            'checkpoint'
        )
    return configs[0]


def checkpoint_in(work_dir: Path) -> Path:
    """Finds the best checkpoint of a training (``save_best``; the newest of several); without a best one, the last.

    Raises:
        FileNotFoundError: if there is none.
    """
    named = work_dir / 'last_checkpoint'  # MMEngine writes the path of the last checkpoint there
    last = work_dir / Path(named.read_text().strip()).name if named.is_file() else None
    best = sorted(work_dir.glob('best_*.pth'), key=osp.getmtime)
    if best:
        return best[-1]
    if last is not None and last.is_file():
        return last
    checkpoints = sorted(work_dir.glob('*.pth'), key=osp.getmtime)
    if checkpoints:
        return checkpoints[-1]
    raise FileNotFoundError(
        f'{work_dir}: expected a checkpoint (*.pth) in the folder, got none: has the training begun?'
    )
