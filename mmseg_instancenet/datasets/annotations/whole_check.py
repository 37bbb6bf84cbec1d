"""All checks of an annotation file and its images, before a training."""

import os.path as osp
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get_local_path
from pycocotools.coco import COCO

from ...structures import VOID, BoxedMasks
from ..coco import CocoInstanceDataset
from ..transforms.load_masks import crops_of
from .checks import Decision
from .coco_api import coco_of
from .findings import Findings
from .image_checks import ImageFiles, by
from .json_file import load_json
from .list_checks import check_lists
from .mask_checks import check_masks
from .object_statistics import Grids, ObjectStatistics, Size
from .reader import check_file, read_annotations


class SetReport(NamedTuple):
    """The findings in an annotation file and its images, and the measures of its objects.

    Attributes:
        content: the file in the normal form, without the annotations that are refused; ``None`` where the file, its images or
            its categories are refused. Neither images nor objects are checked then.
        findings: of all checks.
        files: the images that were opened.
        statistics: of the objects of the data set's classes.
        stops: whether a training on this data set would stop.
    """

    content: dict | None
    findings: Findings
    files: ImageFiles
    statistics: ObjectStatistics
    stops: bool

    def __str__(self) -> str:
        parts = [self.findings.report(decision) for decision in Decision]
        if self.content is None:
            parts.append(f'{self.findings.name}: images and objects are checked after this is corrected')
            return '\n'.join(filter(None, parts))
        counts = ', '.join(f'{key}: {len(self.content[key])}' for key in ('images', 'annotations', 'categories'))
        parts += [f'{self.findings.name}, {counts}', self.files.summary()]
        if self.files.sizes and self.statistics.grids_of:
            size = self.files.sizes.most_common(1)[0][0]
            grids = self.statistics.grids_of(size)
            parts.append(
                f'an image of {by(size)} enters the network at {by(grids.input)}; map of the embedding {by(grids.map)}'
            )
        return '\n'.join(filter(None, [*parts, self.statistics.table()]))


def check_set(
    dataset: CocoInstanceDataset,
    grids_of: Callable[[Size], Grids] | None = None,
    progress: Callable[[list], Iterable] = iter,
) -> SetReport:
    """Checks the annotation file of a data set, all of its images and all objects of its classes.

    Time: about 45 microseconds an object, besides the loading step of the images. Peak memory: that of the annotation file and
    of an image with its masks within their boxes.

    Args:
        dataset: built with ``lazy_init=True``, so that nothing has been read; its pipeline begins with the loading step.
        grids_of: see :class:`ObjectStatistics`.
        progress: goes through the list of images, and may show how far it is.

    Raises:
        FileNotFoundError: if the annotation file is not there.

    Example::

        dataset = CocoInstanceDataset(ann_file='train.json', data_root='data/', data_prefix=dict(img='images/'),
                                      metainfo=dict(classes=('nucleus',)), pipeline=[], lazy_init=True)
        print(check_set(dataset))
    """
    classes = list(dataset.metainfo['classes'])
    before = dataset.prepare_annotations()
    with get_local_path(dataset.ann_file, backend_args=dataset.backend_args) as path:
        content, findings = check_file(path, name=dataset.source)
        stops = content is None
        entries: list = []
        if content is not None and findings.of(Decision.REFUSED):
            # Annotations of other classes do not matter, and strict=False leaves out those that are refused.
            stops = _is_refused(path, classes, dataset.strict)
            entries = load_json(path, Findings('')).get('annotations') or []
        findings.include(before)
        stops |= dataset.strict and bool(before.of(Decision.REFUSED))
    steps = dataset.pipeline.transforms
    loader = next((step for step in steps if isinstance(step, LoadImageFromFile)), None)
    files = ImageFiles(loader or LoadImageFromFile(), dataset.backend_args, findings)
    statistics = ObjectStatistics(classes, grids_of)
    if content is not None:
        if not content['images']:
            findings.add('no-image', 'the list is empty')
        coco = coco_of(content)
        try:
            dataset.check_classes(coco)
        except ValueError as error:
            findings.add('classes', str(error).removeprefix(f'{dataset.source} '))
        check_lists(content, classes, entries, findings)
        checker = _ObjectChecker(coco, classes, findings, statistics)
        for image in progress(content['images']):
            files.check(osp.join(dataset.data_prefix.get('img') or '', image['file_name']), image)
            checker.check(image)
        stops |= any(not finding.check.can_be_skipped for finding in findings.of(Decision.REFUSED))
    return SetReport(content, findings, files, statistics, stops)


def _is_refused(path: str, classes: list[str], strict: bool) -> bool:
    try:
        read_annotations(path, classes=classes, strict=strict)
    except ValueError:
        return True
    return False


class _ObjectChecker:
    """Checks and measures objects, one image at a time."""

    def __init__(self, coco: COCO, classes: list[str], findings: Findings, statistics: ObjectStatistics) -> None:
        self.coco, self.findings, self.statistics = coco, findings, statistics
        label_of_name = {name: label for label, name in enumerate(classes)}
        # Void has no label; like a crowd it is ignored.
        self.label_of = {
            category['id']: label_of_name.get(category['name'], -1)
            for category in coco.dataset['categories']
            if category['name'] in (*classes, VOID)
        }

    def check(self, image: dict) -> None:
        annotations = [entry for entry in self.coco.imgToAnns[image['id']] if entry['category_id'] in self.label_of]
        if not annotations:
            return
        labels_K = np.array([self.label_of[entry['category_id']] for entry in annotations])
        ignored_K = labels_K < 0
        ignored_K |= [bool(entry['iscrowd'] or entry.get('ignore')) for entry in annotations]
        size = image['height'], image['width']
        crops = crops_of([self.coco.annToRLE(entry) for entry in annotations])
        pixel_K = self.statistics.add(BoxedMasks(crops, *size), labels_K, ignored_K)
        place_J = np.flatnonzero(~ignored_K).tolist()
        check_masks(
            [crops[place] for place in place_J],
            pixel_K[place_J],
            size,
            image['file_name'],
            [annotations[place]['id'] for place in place_J],
            self.findings,
        )
