"""Data sets in COCO's format."""

import os.path as osp
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.dataset import Compose
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend, exists, get_file_backend
from mmseg.registry import DATASETS

from ..structures import IGNORED_CLASS, VOID
from .annotations import Findings, open_annotations, warn_of
from .cached_pipeline import CachedPipeline
from .digits import CLASSES as DIGITS
from .digits import write_digits
from .named_errors import named_errors


@DATASETS.register_module()
class CocoInstanceDataset(CocoDataset):
    """mmdet's ``CocoDataset`` for training on label maps.

    - The annotation file is read by :func:`read_annotations`, as the metrics read it: faults are mended with a
      warning, or raise an error before the first iteration that lists the kinds of faults, each with its first example.
    - Annotations that mmdet leaves out are *ignored* instead of background: objects with an ``ignore`` flag, and the void of an
      image, the annotations of a category ``void`` that is no class of the set (as ``tools/convert/voc_to_coco.py`` writes
      them). Every annotation with pixels in its mask is an object, whatever size the file gives.
    - A missing annotation file or image and a class that the json lacks raise an error that names them.

    Any COCO-format set needs ``data_root``, ``ann_file``, ``data_prefix=dict(img=...)`` and, if the classes are not
    COCO's, ``metainfo=dict(classes=(...))``.

    Args:
        strict: False leaves out annotations that cannot be mended, and gives their number.
        cache_gigabytes: memory in which each process that reads images keeps loaded images and masks from one epoch to the next
            (:class:`CachedPipeline`); 0 loads them anew. With workers it needs ``persistent_workers=True`` of the data loader.
        **kwargs: of mmdet's ``CocoDataset``.
    """

    pipeline: Compose

    def __init__(self, *args: Any, strict: bool = True, cache_gigabytes: float = 0, **kwargs: Any) -> None:
        self.strict = strict
        super().__init__(*args, **kwargs)
        if cache_gigabytes:
            self.pipeline = CachedPipeline(self.pipeline.transforms, cache_gigabytes)

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | None = None) -> dict:
        classes = None if metainfo is None else metainfo.get('classes')
        if isinstance(classes, str) and not osp.isfile(classes):
            # ('nucleus') is a string in Python, and so it is on the command line.
            metainfo = {**(metainfo or {}), 'classes': (classes,)}
        return super()._load_metainfo(metainfo)

    @property
    def source(self) -> str:
        """The annotations as messages name them."""
        return self.ann_file

    def prepare_annotations(self) -> Findings:
        """Makes sure that the annotation file is there, and returns the findings that are not in the file: none here."""
        if not exists(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'annotation file not found: {self.ann_file}; set data_root and ann_file of the data set (on the command '
                'line: --cfg-options data_root=...)'
            )
        return Findings(self.ann_file)

    def load_data_list(self) -> list[dict]:
        findings = self.prepare_annotations()
        findings.refuse(self.strict)
        warn_of(findings)
        self.COCOAPI = self._open  # mmdet reads the file by this name
        data_list = super().load_data_list()
        del self.COCOAPI  # a method among the attributes would be sent to each worker
        if not data_list:
            raise ValueError(f'{self.source} names no images; expected a COCO json with "images"')
        self._check_images(data_list)
        return data_list

    def prepare_data(self, idx: int) -> Any:
        with named_errors(self.get_data_info(idx)):
            return super().prepare_data(idx)

    def filter_data(self) -> list[dict]:
        data_list = super().filter_data()
        self._check_indices(len(data_list))
        return data_list

    def _check_indices(self, count: int) -> None:
        beyond = (
            []
            if isinstance(self._indices, int | None)
            else [index for index in self._indices if not -count <= index < count]
        )
        if beyond:
            raise ValueError(
                f'{self.source} has {count} images: expected indices below that, got {len(beyond)} others, the first of them '
                f'{beyond[0]}. Set indices of the data set to those of its images, or to None for all (on the command line: '
                '--cfg-options train_dataloader.dataset.indices=None)'
            )

    def _open(self, path: str) -> COCO:
        coco = open_annotations(path, self.source, classes=self.metainfo['classes'], strict=self.strict)
        self.check_classes(coco)
        return coco

    def _check_images(self, data_list: list[dict]) -> None:
        """Raises FileNotFoundError at the start of a run if an image is missing."""
        if not isinstance(get_file_backend(data_list[0]['img_path'], backend_args=self.backend_args), LocalBackend):
            return  # checking every image in a remote store would take minutes
        missing = [info['img_path'] for info in data_list if not osp.exists(info['img_path'])]
        if missing:
            raise FileNotFoundError(
                f'{self.source} names {len(missing)} images that do not exist; the first is {missing[0]}. Set '
                'data_prefix=dict(img=...) to their folder'
            )

    def check_classes(self, coco: COCO) -> None:
        """Raises ValueError unless the classes are those of an annotation file, in the same order."""
        in_json = [category['name'] for category in coco.dataset['categories']]
        classes = list(self.metainfo['classes'])
        missing = [name for name in classes if name not in in_json]
        if missing:
            raise ValueError(
                f'{self.source} has no class {", ".join(map(repr, missing))}; it has {in_json}. Set '
                "metainfo=dict(classes=(...)) to the json's names"
            )
        if len(classes) >= IGNORED_CLASS:
            raise ValueError(
                f'expected at most {IGNORED_CLASS - 1} classes, got {len(classes)}: label {IGNORED_CLASS} means ignore'
            )
        # mmdet numbers the labels in the json's order, whatever the order of the names.
        order = [name for name in in_json if name in classes]
        if order != classes:
            raise ValueError(f'the classes must be in the order of {self.source}: expected {order}, got {classes}')

    def parse_data_info(self, raw_data_info: dict) -> dict:
        data_info = super().parse_data_info(raw_data_info)
        if self.test_mode:
            data_info['ann_file'] = self.ann_file  # where the metrics find the ground truth
        classes, void = set(self.cat_ids), set(self.coco.get_cat_ids(cat_names=[VOID])) - set(self.cat_ids)
        data_info['instances'] += [
            _ignored_instance(annotation, self.cat2label.get(annotation['category_id'], 0))
            for annotation in raw_data_info['raw_ann_info']
            if annotation['category_id'] in void or (annotation.get('ignore') and annotation['category_id'] in classes)
        ]
        return data_info


def _ignored_instance(annotation: dict, label: int) -> dict:
    x, y, width, height = annotation['bbox']
    return {
        'bbox': [x, y, x + width, y + height],
        'bbox_label': label,  # nothing reads it
        'mask': annotation['segmentation'],
        'ignore_flag': 1,
    }


@DATASETS.register_module()
class DigitsDataset(CocoInstanceDataset):
    """Handwritten digits on 64 x 64 canvases; a missing split is generated in ``data_root``. See
    ``datasets/digits.py``."""

    METAINFO = {
        'classes': DIGITS,
        'palette': [
            (230, 25, 75),
            (60, 180, 75),
            (255, 225, 25),
            (0, 130, 200),
            (245, 130, 48),
            (145, 30, 180),
            (70, 240, 240),
            (240, 50, 230),
            (210, 245, 60),
            (250, 190, 212),
        ],
    }

    def load_data_list(self) -> list[dict]:
        # A mistyped name of a file writes nothing.
        if is_main_process() and osp.basename(self.ann_file) in ('train.json', 'val.json'):
            write_digits(Path(self.data_root))
        barrier()
        return super().load_data_list()
