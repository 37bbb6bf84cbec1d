"""Lists the images in a user's input: files, folders, patterns, arrays."""

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmdet.utils.misc import IMG_EXTENSIONS

Image = str | Path | np.ndarray


def is_one_image(images: Image | Sequence[Image]) -> bool:
    """Whether the argument is one image: an array, a file, or an address; not a folder, a pattern or a list."""
    if isinstance(images, np.ndarray):
        return True
    if not isinstance(images, (str, Path)):
        return False
    path = Path(images)
    return path.is_file() or ('://' in str(images)) or not (path.is_dir() or glob.has_magic(str(images)))


def list_images(images: Image | Sequence[Image]) -> list[str | np.ndarray]:
    """Lists the images of a file, a folder, a pattern, an array, or of a list of these.

    Args:
        images: a folder stands for its image files (by the ending; not those of its subfolders), a pattern such as
            ``'plates/**/*.tif'`` for the files that match it; both in the order of their names.

    Raises:
        FileNotFoundError: if there is no such file, or none in a folder or for a pattern.

    Example:
        >>> import os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> for name in ('2.tif', '1.PNG', 'notes.txt'):
        ...     open(os.path.join(folder, name), 'w').close()
        >>> [os.path.basename(path) for path in list_images(folder)]
        ['1.PNG', '2.tif']
    """
    if isinstance(images, np.ndarray):
        return [images]
    if not isinstance(images, (str, Path)):
        return [one for some in images for one in list_images(some)]
    path = Path(images)
    if path.is_file() or '://' in str(images):
        return [str(images)]
    if path.is_dir():
        found = sorted(
            str(file) for file in path.iterdir() if file.suffix.lower() in IMG_EXTENSIONS and _is_listed(file)
        )
        if not found:
            raise FileNotFoundError(
                f'{images}: expected image files in the folder ({", ".join(IMG_EXTENSIONS)}), got none; for images in '
                f"subfolders give a pattern, '{path / '**' / '*.png'}'"
            )
        return [*found]
    matching = sorted(file for file in glob.glob(str(images), recursive=True) if _is_listed(Path(file)))
    if not matching:
        raise FileNotFoundError(
            f'{images}: expected '
            + (
                'files that match the pattern, got none'
                if glob.has_magic(str(images))
                else 'an image, got no such file'
            )
        )
    return [*matching]


def _is_listed(path: Path) -> bool:
    """Files, and links whose file is gone: reading such a link fails with its name, while leaving it out would be silent."""
    return path.is_file() or (path.is_symlink() and not path.exists())
