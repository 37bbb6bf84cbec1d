"""Reads annotation files into pycocotools' ``COCO`` object, which mmdet's data set and metrics use."""

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from mmdet.datasets.api_wrappers import COCO

from .reader import read_annotations, warn_of


def coco_of(content: dict) -> COCO:
    """Builds pycocotools' ``COCO`` object from annotations in the normal form."""
    coco = COCO()
    coco.dataset = content
    with redirect_stdout(StringIO()):  # pycocotools prints that it creates an index
        coco.createIndex()
    coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
    return coco


def open_annotations(
    path: str | Path,
    name: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    strict: bool = True,
    quiet: bool = False,
) -> COCO:
    """Reads an annotation file (:func:`read_annotations`) for mmdet.

    Args:
        path, name, classes, strict: see there.
        quiet: give no warning about mended entries: the data set has given it.
    """
    content, findings = read_annotations(path, name=name, classes=classes, strict=strict)
    if not quiet:
        warn_of(findings)
    return coco_of(content)
