"""Conversion of the label maps of PASCAL VOC 2012 and SBD to COCO annotations; void pixels stay void."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmdet.datasets import VOCDataset
from mmseg.registry import DATASETS
from pycocotools import mask as coco_mask

from ..structures import IGNORED_CLASS, VOID, labels_to_rle
from .coco import CocoInstanceDataset
from .label_images.mask_files import FaultyMaskError, image_sizes, read_mask
from .mat_file import load_mat

CLASSES = VOCDataset.METAINFO['classes']
"""The 20 classes in VOC's own order: class k of its maps is ``CLASSES[k - 1]``."""


class LabelMaps(NamedTuple):
    """Class map and object map of an image, two (H, W) integer maps.

    Attributes:
        classes: 0 = background, 1 .. 20 = VOC's classes, 255 = void.
        objects: 0 = none, 1 and above = the objects, 255 = void.
    """

    classes: np.ndarray
    objects: np.ndarray


class AnnotatedImage(NamedTuple):
    """One image of a set: its file, and its annotation, a PNG pair of VOC (classes, objects) or a file of SBD."""

    image: Path
    annotation: tuple[Path, ...]


def read_voc(class_file: Path, object_file: Path) -> LabelMaps:
    """Reads the label maps of an image of VOC, from ``SegmentationClass/*.png`` and ``SegmentationObject/*.png``.

    Raises:
        ValueError: if a file is damaged, or no map of one channel, as where the palette's colours were saved for its indices.
    """
    maps = []
    for file in (class_file, object_file):
        try:
            maps.append(read_mask(file))
        except FaultyMaskError as error:
            hint = ': colours in place of labels' if error.check == 'mask-channels' else ''
            found = error.first.removeprefix(f'{file}: ')
            raise ValueError(f'{file}: expected a PNG with a palette, one index a pixel, got {found}{hint}') from error
    return LabelMaps(*maps)


def read_sbd(file: Path) -> LabelMaps:
    """Reads the label maps of an image of SBD, which has no void.

    Reads ``GTinst`` (``Segmentation``, ``Categories``) of the release's ``inst/*.mat``, and ``gtMat`` (``instMap``,
    ``segMap``) as Kong & Fowlkes distribute it.

    Raises:
        ValueError: if the file is damaged or has neither.
    """
    content = load_mat(file.read_bytes(), str(file), squeeze_me=True, struct_as_record=False)
    if 'GTinst' in content:
        objects, categories = _arrays(file, content['GTinst'], 'Segmentation', 'Categories')
        if objects.max(initial=0) > categories.size:
            raise ValueError(f'{file}: expected a category for each of {objects.max()} objects, got {categories.size}')
        return LabelMaps(np.append(0, categories)[objects], objects)
    if 'gtMat' in content:
        return LabelMaps(*_arrays(file, content['gtMat'], 'segMap', 'instMap'))
    names = sorted(name for name in content if not name.startswith('__'))
    raise ValueError(f'{file}: expected GTinst (inst/*.mat of SBD) or gtMat, got {names}')


def _arrays(file: Path, fields: Any, *names: str) -> list[np.ndarray]:
    """Fields of a struct as whole numbers from 0; a map has two axes whatever its size."""
    arrays = []
    for name in names:
        values = np.asarray(getattr(fields, name, None))
        if values.dtype.kind not in 'bui' or (values < 0).any():
            raise ValueError(
                f'{file}: expected whole numbers from 0 in {name}, got {values.dtype} of shape {values.shape}'
            )
        arrays.append(np.atleast_1d(values).astype(np.int64))
    return arrays


def maps_to_annotations(maps: LabelMaps) -> tuple[list[dict], int]:
    """Converts two label maps to COCO annotations, without ids, of the image's objects and void.

    An object has the class that most of its pixels have. Void is one annotation of the category :data:`VOID` with
    ``iscrowd=1``; to it belong the pixels that either map calls void, and those on which the two maps do not agree.

    Returns:
        the annotations (``category_id``, ``iscrowd``, ``area``, ``bbox``, ``segmentation``), void last, and the number of
        pixels on which the maps did not agree.

    Raises:
        ValueError: if the maps differ in shape, or a class is above 20 and not 255.

    Example:
        >>> maps = LabelMaps(np.array([[0, 15, 15, 255]]), np.array([[0, 1, 1, 255]]))
        >>> annotations, _ = maps_to_annotations(maps)
        >>> [(entry['category_id'], entry['area'], entry['bbox']) for entry in annotations]
        [(15, 2, [1.0, 0.0, 2.0, 1.0]), (255, 1, [3.0, 0.0, 1.0, 1.0])]
    """
    classes, objects = (values.astype(np.int64) for values in maps)
    if classes.ndim != 2:
        raise ValueError(f'expected class and object maps (H, W), got the shape {classes.shape}')
    if classes.shape != objects.shape:
        raise ValueError(f'expected class and object maps of one shape, got {classes.shape} and {objects.shape}')
    void = (classes == IGNORED_CLASS) | (objects == IGNORED_CLASS)
    unknown = set(np.unique(classes[~void]).tolist()) - set(range(len(CLASSES) + 1))
    if unknown:
        raise ValueError(f'expected classes 0 .. {len(CLASSES)} and 255 for void, got {sorted(unknown)}')

    inside = ~void & (objects > 0)
    _, object_P = np.unique(objects[inside], return_inverse=True)
    count = object_P.max(initial=-1) + 1
    pixels_KC = np.zeros((count, len(CLASSES) + 1), np.int64)
    np.add.at(pixels_KC, (object_P, classes[inside]), 1)
    class_K = pixels_KC[:, 1:].argmax(1) + 1  # the background is no object's class
    labels = np.zeros(classes.shape, np.int64)
    labels[inside] = object_P + 1
    disagreed = ~void & (np.append(0, class_K)[labels] != classes)
    labels[void | disagreed] = count + 1
    annotations = []
    for category, rle in zip([*class_K.tolist(), IGNORED_CLASS], labels_to_rle(labels, count + 1), strict=True):
        area = int(coco_mask.area(rle))
        if area:
            annotations.append(
                {
                    'category_id': category,
                    'iscrowd': int(category == IGNORED_CLASS),
                    'area': area,
                    'bbox': coco_mask.toBbox(rle).tolist(),
                    'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode()},
                }
            )
    return annotations, int(disagreed.sum())


def find_voc(folder: Path) -> dict[str, AnnotatedImage]:
    """Lists the annotated images of ``VOCdevkit/VOC2012`` by name, in alphabetical order.

    Raises:
        FileNotFoundError: if there are none, or one lacks its objects or its photo.
    """
    images = {}
    for class_file in sorted(folder.glob('SegmentationClass/*.png')):
        name = class_file.stem
        annotation = (class_file, folder / 'SegmentationObject' / f'{name}.png')
        images[name] = AnnotatedImage(folder / 'JPEGImages' / f'{name}.jpg', annotation)
    return _checked(images, f'{folder}/SegmentationClass/*.png, as in VOCdevkit/VOC2012')


def find_sbd(folder: Path) -> dict[str, AnnotatedImage]:
    """Lists the images of SBD's ``benchmark_RELEASE/dataset`` (``inst/*.mat``, ``img/*.jpg``), or of one folder of .mat
    and .jpg.

    Raises:
        FileNotFoundError: if there are none, or one lacks its photo.
    """
    annotations, photos = (folder / name if (folder / name).is_dir() else folder for name in ('inst', 'img'))
    images = {
        file.stem: AnnotatedImage(photos / f'{file.stem}.jpg', (file,)) for file in sorted(annotations.glob('*.mat'))
    }
    return _checked(images, f'{annotations}/*.mat, as in benchmark_RELEASE/dataset')


def _checked(images: dict[str, AnnotatedImage], expected: str) -> dict[str, AnnotatedImage]:
    if not images:
        raise FileNotFoundError(f'found no annotations; expected {expected}')
    for image, annotation in images.values():
        for file in (image, *annotation):
            if not file.is_file():
                raise FileNotFoundError(f'{file} is missing, which belongs to {annotation[0]}')
    return images


def convert(images: Iterable[AnnotatedImage], root: Path) -> tuple[dict, Counter]:
    """Converts images and their annotations, in the given order, to one COCO json.

    Args:
        images: of VOC, of SBD, or of both.
        root: folder from which the json names the photos; the json shall lie there.

    Raises:
        ValueError: for an annotation that cannot be converted; names its files.

    Returns:
        the json's content, and how many ``images``, ``objects``, ``void`` pixels, ``disagreed`` pixels (see
        :func:`maps_to_annotations`) and ``pixels`` it has.
    """
    entries: list[dict] = []
    annotations: list[dict] = []
    counts: Counter[str] = Counter()
    for image_id, (photo_file, annotation) in enumerate(images, 1):
        maps = read_sbd(*annotation) if len(annotation) == 1 else read_voc(*annotation)
        height, width = maps.classes.shape
        sizes = image_sizes(photo_file)
        if not sizes:
            raise ValueError(f'{photo_file}: expected an image, got a file without the header of one: copy it again')
        if sizes[0] != (height, width):
            raise ValueError(f'{photo_file} has width and height {sizes[0][::-1]}, its annotation {(width, height)}')
        entries.append({'id': image_id, 'file_name': _relative(photo_file, root), 'height': height, 'width': width})
        try:
            of_image, disagreed = maps_to_annotations(maps)
        except ValueError as error:
            raise ValueError(f'{" and ".join(map(str, annotation))}: {error}') from error
        for entry in of_image:
            annotations.append(dict(entry, id=len(annotations) + 1, image_id=image_id))
        counts.update(
            images=1,
            objects=sum(not entry['iscrowd'] for entry in of_image),
            void=sum(entry['area'] for entry in of_image if entry['iscrowd']),
            disagreed=disagreed,
            pixels=height * width,
        )
    categories = [{'id': index, 'name': name} for index, name in enumerate(CLASSES, 1)]
    categories.append({'id': IGNORED_CLASS, 'name': VOID})
    return {'images': entries, 'annotations': annotations, 'categories': categories}, counts


def _relative(file: Path, root: Path) -> str:
    return Path(os.path.relpath(file.resolve(), root.resolve())).as_posix()


@DATASETS.register_module()
class VOCInstanceDataset(CocoInstanceDataset):
    """VOC 2012, with SBD or without, as ``tools/convert/voc_to_coco.py`` writes it: 20 classes, void ignored."""

    METAINFO = {key: VOCDataset.METAINFO[key] for key in ('classes', 'palette')}
