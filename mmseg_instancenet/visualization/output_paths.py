"""Paths of drawings: one file for each image, inside one folder."""

from os.path import abspath, commonpath, relpath
from pathlib import Path

from torch.utils.data import Dataset

from ..datasets.wrappers import inner_sets


class OutputPaths:
    """A separate output file in one folder for each image, also for images of the same name in different folders.

    An image in a subfolder of the image folder gets the same subfolder; one outside of the image folder its own folders without
    '..', so that no file lies outside of ``folder``. ``1.png`` becomes ``1.png``, ``1.tif`` becomes ``1.tif.png``: beside each
    other they stay two. Where two images would still get one file, as ``a/1.png`` and ``../a/1.png``, the later one has a
    number. Two processes find the same names independently, except for that number.

    Args:
        folder: of the drawings.
        image_folder: of the images, with a path or an address.
        ending: of the drawings, instead of '.png'.

    Example:
        >>> paths = OutputPaths('drawings', 'data/images')
        >>> [paths.of(f'data/images/{name}').as_posix() for name in ('a/1.png', 'b/1.png', 'b/1.tif', '../../1.png')]
        ['drawings/a/1.png', 'drawings/b/1.png', 'drawings/b/1.tif.png', 'drawings/1.png']
    """

    def __init__(self, folder: str | Path, image_folder: str | Path, ending: str = '.png') -> None:
        self.folder, self.image_folder, self.ending = Path(folder), str(image_folder), ending
        self._image_of: dict[Path, str] = {}

    def of(self, image_path: str | Path) -> Path:
        """The file for an image; the same image always gets the same file.

        Raises:
            ValueError: if it is the image itself.
        """
        image = abspath(image_path)
        parts = [part for part in Path(relpath(image, self.image_folder)).parts if part != '..']
        name = parts.pop().removesuffix('.png')
        number = 1
        while True:
            ending = self.ending if number == 1 else f'_{number}{self.ending}'
            path = self.folder.joinpath(*parts, f'{name}{ending}')
            if abspath(path) == image:
                raise ValueError(
                    f'expected a folder in which a drawing does not overwrite its image {image}, got {self.folder}'
                )
            if self._image_of.setdefault(path, image) == image:
                return path
            number += 1


def image_folder_of(dataset: Dataset) -> str | None:
    """The folder that holds the images of a data set, for joined or wrapped sets the common folder; ``None`` if no set
    has ``data_prefix``."""
    folders = [abspath(folder) for folder in _image_folders(dataset)]
    return commonpath(folders) if folders else None


def _image_folders(dataset: Dataset) -> list[str]:
    inner = inner_sets(dataset)
    if inner:
        return [folder for one in inner for folder in _image_folders(one)]
    prefix = getattr(dataset, 'data_prefix', None) or {}
    return [prefix[key] for key in ('img', 'img_path') if key in prefix][:1]
