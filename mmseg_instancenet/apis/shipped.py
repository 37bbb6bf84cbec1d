"""Models inside the package, found by name: ``NAME.py`` (config), ``NAME.pth`` (weights) and ``NAME.yml`` (metafile)."""

from pathlib import Path

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
