"""Models inside the package, found by name: ``NAME.py`` (config), ``NAME.pth`` (weights) and ``NAME.yml`` (metafile)."""

import os.path as osp
from pathlib import Path

from mmengine.config import Config

FOLDER = Path(__file__).parents[1] / 'shipped_models'


def shipped_models() -> list[str]:
    """The names that ``init_model`` accepts instead of a config file.

    Example::

        >>> from mmseg_instancenet.apis import shipped_models
        >>> shipped_models()
        ['nuclei']
    """
    return sorted(path.stem for path in FOLDER.glob('*.pth') if path.with_suffix('.py').is_file())


def example_image(name: str = 'nuclei') -> Path:
    """An example image for a shipped model, not among its training images; the README beside it gives source and
    licence.

    Raises:
        FileNotFoundError: if the model has no such image.

    Example::

        >>> from mmseg_instancenet.apis import example_image
        >>> example_image().name
        'nuclei_example.png'
    """
    path = FOLDER / f'{name}_example.png'
    if not path.is_file():
        names = sorted(other.name.removesuffix('_example.png') for other in FOLDER.glob('*_example.png'))
        raise FileNotFoundError(f'expected one of {names}, got {name!r}: there is no {path}')
    return path


def config_and_checkpoint(
    config: str | Path | Config, checkpoint: str | None = None
) -> tuple[str | Path | Config, str | None]:
    """Replaces the name of a shipped model by its config and checkpoint; other arguments are returned unchanged.

    Args:
        config: name of a shipped model, config file, or what was read from one.
        checkpoint: file or address; with the name of a shipped model it takes the place of the shipped weights.

    Raises:
        FileNotFoundError: if a string is neither the name of a shipped model nor a file.
    """
    if not isinstance(config, str):
        return config, checkpoint
    names = shipped_models()
    if config in names:
        return str(FOLDER / f'{config}.py'), checkpoint or str(FOLDER / f'{config}.pth')
    if not osp.isfile(osp.expanduser(config)):
        raise FileNotFoundError(
            f'expected the name of a shipped model ({", ".join(names) or "there is none"}) or a config file, got {config!r}: '
            'there is no such model and no such file'
        )
    return config, checkpoint
