"""Which mask files belong to which image of a folder."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..annotations.findings import Findings

IMAGE_ENDINGS = ('.png', '.tif', '.tiff', '.jpg', '.jpeg', '.bmp', '.webp')
"""Endings of files that are taken for images; masks have the same, so that one of a lossy format is named and not passed over."""


@dataclass(frozen=True)
class MaskFile:
    """A mask file of an image.

    Attributes:
        path: of the file.
        one_object: True for a mask of one object, False for a label image.
        class_name: name of its class folder, or ``None`` without class folders.
    """

    path: Path
    one_object: bool
    class_name: str | None


@dataclass
class AnnotatedFile:
    """An image and its mask files.

    Attributes:
        key: name of the image below its folder, with '/' and without the ending.
        path: of the image.
        masks: sorted; empty where a folder of masks is empty, ``None`` where there is nothing.
    """

    key: str
    path: Path
    masks: list[MaskFile] | None = field(default=None)


def _files(folder: Path) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """The folders below a folder, as parts of their path, and the names of the images in each; hidden ones are left out."""
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        yield (
            Path(path).relative_to(folder).parts,
            sorted(name for name in names if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith('.')),
        )


def find_images(
    image_folder: Path, mask_folder: Path, *, mask_suffix: str, class_folders: bool, findings: Findings
) -> list[AnnotatedFile]:
    """The images of a folder with their masks, in the order of their names.

    The masks of ``images/a/1.png`` are ``masks/a/1.png`` (a label image; any ending, the suffix before it) or the files in
    ``masks/a/1/`` (one object each). With class folders all of this lies below ``masks/CLASS/``.

    Images and masks may lie in one folder: what ends in the suffix or lies in a folder ``masks`` is a mask then, and the folder
    names ``images`` and ``masks`` do not count: ``1/images/1.png`` belongs to all files in ``1/masks/``, as in Kaggle's Data
    Science Bowl 2018.

    Args:
        image_folder, mask_folder: of the images and of the masks.
        mask_suffix: end of the names of the label images, such as '_masks'; empty where they have the names of the images.
        class_folders: whether the masks lie in folders of their classes.
        findings: gets the files that belong to nothing, and images with two masks.

    Raises:
        FileNotFoundError: if a folder is missing or holds no image.
    """
    for name, folder in (('img', image_folder), ('mask', mask_folder)):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"folder not found: {folder}; set data_root and data_prefix=dict({name}='..') of the data set"
            )
    one_folder = image_folder.resolve() == mask_folder.resolve()
    images, folder_of_one = _list_images(image_folder, mask_suffix, one_folder, findings)
    if not images:
        raise FileNotFoundError(
            f'no image in {image_folder}: expected files that end in {", ".join(IMAGE_ENDINGS)}; set data_root and '
            'data_prefix=dict(img=..) of the data set'
        )
    for parts, names in _files(mask_folder):
        if one_folder and 'masks' not in parts:
            names = [name for name in names if mask_suffix and Path(name).stem.endswith(mask_suffix)]
        path = mask_folder.joinpath(*parts)
        below = tuple(part for part in parts if part != 'masks') if one_folder else parts
        class_name = None
        if class_folders:
            if not below:
                for name in names:
                    findings.add('mask-outside-class', str(path / name))
                continue
            class_name, *rest = below
            below = tuple(rest)
        name_of_folder = '/'.join(below)
        holds_masks = not one_folder or 'masks' in parts
        of_folder = images.get(folder_of_one.get(name_of_folder, name_of_folder)) if holds_masks else None
        if of_folder is not None and of_folder.masks is None:
            of_folder.masks = []  # the folder of the masks exists: the image is annotated
        for name in names:
            stem = Path(name).stem
            key = '/'.join((*below, stem.removesuffix(mask_suffix)))
            image = images.get(key) if stem.endswith(mask_suffix) else None
            found = image or of_folder
            if found is None:
                findings.add('mask-without-image', str(path / name))
                continue
            found.masks = [*(found.masks or []), MaskFile(path / name, image is None, class_name)]
    listed = [images[key] for key in sorted(images)]
    for image in listed:
        image.masks = image.masks and sorted(image.masks, key=lambda mask: str(mask.path))
    return listed


def _list_images(
    folder: Path, mask_suffix: str, one_folder: bool, findings: Findings
) -> tuple[dict[str, AnnotatedFile], dict[str, str]]:
    """The images by their keys; and for folders ``1/images`` with one image, ``1``, the key of this image."""
    images: dict[str, AnnotatedFile] = {}
    in_folder: dict[str, list[str]] = defaultdict(list)
    for parts, names in _files(folder):
        if one_folder and 'masks' in parts:
            continue
        below = tuple(part for part in parts if part != 'images') if one_folder else parts
        for name in names:
            stem = Path(name).stem
            if one_folder and mask_suffix and stem.endswith(mask_suffix):
                continue
            key, path = '/'.join((*below, stem)), folder.joinpath(*parts, name)
            if key in images:
                findings.add('images-of-one-name', f'{images[key].path} and {path}')
                continue
            images[key] = AnnotatedFile(key, path)
            if len(below) < len(parts):
                in_folder['/'.join(below)].append(key)
    return images, {name: keys[0] for name, keys in in_folder.items() if len(keys) == 1}


def check_masks_of(image: AnnotatedFile) -> tuple[str, str] | None:
    """The fault of an image without a mask, or with two label images of a class, or with a label image beside masks of single
    objects: key of :data:`CHECKS` and text."""
    if image.masks is None:
        return 'no-mask-file', str(image.path)
    counts = Counter(mask.class_name for mask in image.masks)
    for mask in image.masks:
        if not mask.one_object and counts[mask.class_name] > 1:
            other = next(one for one in image.masks if one is not mask and one.class_name == mask.class_name)
            return 'several-masks', f'{mask.path} and {other.path}'
    return None
