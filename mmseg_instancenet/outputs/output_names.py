"""One name for each image of a list, for the files that are written of it."""

from collections.abc import Sequence
from os.path import abspath, sep
from pathlib import Path

from ..visualization import OutputPaths


def output_names(images: Sequence[str | Path], image_folder: str | Path, folders: Sequence[Path]) -> dict[str, str]:
    """The names of all images, which depend on the list alone: see :class:`OutputPaths`.

    Args:
        images: paths.
        image_folder: of the images; the names are the paths below it, without '.png'.
        folders: where files of these names, with an ending, will be written.

    Returns:
        for the absolute path of each image, in the order of the list, its name: a path with '/', without an ending.

    Raises:
        ValueError: if an image is named twice or lies in one of the folders, where it could be overwritten.

    Example:
        >>> names = output_names(['a/1.png', 'a/1.tif', 'b/2.png'], '', [Path('out/labels')])
        >>> list(names.values())
        ['a/1', 'a/1.tif', 'b/2']
    """
    places = [abspath(folder) for folder in folders]
    paths = OutputPaths(folders[0], image_folder, ending='')  # the same names for each folder
    names: dict[str, str] = {}
    for image in images:
        path = abspath(image)
        if path in names:
            raise ValueError(f'expected each image once, got {image} twice')
        inside = [place for place in places if path.startswith(place + sep)]
        if inside:
            raise ValueError(
                f'expected images outside of the folders that are written, got {image} in {inside[0]}: give another folder by '
                '--out'
            )
        names[path] = paths.of(path).relative_to(folders[0]).as_posix()
    return names
