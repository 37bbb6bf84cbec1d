"""Reads the annotation files with the ground truth of an evaluation."""

from collections.abc import Sequence
from typing import Any

from mmdet.datasets.api_wrappers import COCO
from mmengine.fileio import get_local_path

from ...datasets.annotations import coco_of, open_annotations
from .void import void_masks


class AnnotationFiles:
    """Opens annotation files, each only once.

    Args:
        of_the_data_set: whether the data set has opened the files before. Its warnings are not repeated, and annotations that it
            left out (``strict=False``) are left out here too.
        backend_args: of MMEngine's file backend.
    """

    def __init__(self, of_the_data_set: bool, backend_args: dict | None = None) -> None:
        self.of_the_data_set, self.backend_args = of_the_data_set, backend_args
        self._opened: dict[str, COCO] = {}
        self._void: dict[str, dict] = {}

    def open(self, ann_file: str, classes: Sequence[str]) -> COCO:
        """Reads the annotations of the classes, and void, from a file."""
        if ann_file not in self._opened:
            with get_local_path(ann_file, backend_args=self.backend_args) as path:
                self._opened[ann_file] = open_annotations(
                    path, ann_file, classes=classes, strict=not self.of_the_data_set, quiet=self.of_the_data_set
                )
        return self._opened[ann_file]

    def void(self, ann_file: str, classes: Sequence[str]) -> dict[int, dict]:
        """The void masks of the images of a file; see :func:`void_masks`."""
        if ann_file not in self._void:
            self._void[ann_file] = void_masks(self.open(ann_file, classes))
        return self._void[ann_file]


def join(truths: dict[str, COCO], classes: Sequence[str]) -> tuple[COCO, dict[tuple[str, int], int]]:
    """Joins several annotation files into one.

    Args:
        truths: the annotations of each file.
        classes: names of the categories.

    Returns:
        annotations of these classes with the categories 1, 2, .. in their order and new ids for images; and the new id of each
        image by its file and its id there.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    number_of: dict[tuple[str, Any], int] = {}
    for ann_file, coco in truths.items():
        for image in coco.dataset['images']:
            number_of[ann_file, image['id']] = len(images) + 1
            images.append({**image, 'id': len(images) + 1})
        category_of = {
            category['id']: classes.index(category['name']) + 1
            for category in coco.dataset['categories']
            if category['name'] in classes
        }
        for annotation in coco.dataset['annotations']:
            if annotation['category_id'] in category_of:
                changes = dict(
                    id=len(annotations) + 1,
                    image_id=number_of[ann_file, annotation['image_id']],
                    category_id=category_of[annotation['category_id']],
                )
                annotations.append({**annotation, **changes})
    categories = [{'id': number, 'name': name} for number, name in enumerate(classes, 1)]
    return coco_of({'images': images, 'annotations': annotations, 'categories': categories}), number_of
