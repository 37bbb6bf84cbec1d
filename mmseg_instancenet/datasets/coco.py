"""COCO-format data sets."""

import os.path as osp
import warnings
from pathlib import Path

from mmdet.datasets import CocoDataset
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend, exists, get_file_backend
from mmseg.registry import DATASETS

from ..structures import IGNORED_CLASS, VOID
from .digits import CLASSES as DIGITS
from .digits import write_digits

_RIM = 1.0
"""Polygons may reach this many pixels over the rim: annotation tools round that way, COCO's own too."""


@DATASETS.register_module()
class CocoInstanceDataset(CocoDataset):
    """mmdet's ``CocoDataset``, for label maps: what it leaves out is *ignored* instead of becoming background.

    - Objects that mmdet drops for their size (a box narrower than a pixel, no area) or their ``ignore`` flag are kept with
      ``ignore_flag``; so is the void of a picture, the annotations of a category ``void`` that is no class of the set (as
      ``tools/convert/voc_to_coco.py`` writes them).
    - A missing annotation file or picture, a class that the json lacks and an object without a mask stop with a line that
      names them; polygons that reach outside their picture are clipped, with a warning that names the first.

    Any COCO-format set needs ``data_root``, ``ann_file``, ``data_prefix=dict(img=...)`` and, if the classes are not
    COCO's, ``metainfo=dict(classes=(...))``.
    """

    def load_data_list(self) -> list[dict]:
        if not exists(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'annotation file not found: {self.ann_file}; set data_root and ann_file of the data set (on the command '
                'line: --cfg-options data_root=...)'
            )
        if self.test_mode:  # the training set's metainfo goes into checkpoints, where no path belongs
            self._metainfo['ann_file'] = self.ann_file  # for the metric
        self._outside: list[str] = []
        data_list = super().load_data_list()
        if not data_list:
            raise ValueError(f'{self.ann_file} names no pictures; expected a COCO json with "images"')
        if self._outside:
            warnings.warn(
                f'{self.ann_file}: {len(self._outside)} objects have polygons outside their picture, which are clipped; the '
                f'first is {self._outside[0]}',
                stacklevel=2,
            )
        self._check_pictures(data_list)
        return data_list

    def _check_pictures(self, data_list: list[dict]) -> None:
        """A picture that is missing shall stop the run before it starts, not in the middle."""
        if not isinstance(get_file_backend(data_list[0]['img_path'], backend_args=self.backend_args), LocalBackend):
            return  # asking a remote store for every picture would take minutes
        missing = [info['img_path'] for info in data_list if not osp.exists(info['img_path'])]
        if missing:
            raise FileNotFoundError(
                f'{self.ann_file} names {len(missing)} pictures that do not exist; the first is {missing[0]}. Set '
                'data_prefix=dict(img=...) to their folder'
            )

    def _check_classes(self) -> None:
        in_json = [category['name'] for category in self.coco.dataset['categories']]
        classes = list(self.metainfo['classes'])
        missing = [name for name in classes if name not in in_json]
        if missing:
            raise ValueError(
                f'{self.ann_file} has no class {", ".join(map(repr, missing))}; it has {in_json}. Set '
                "metainfo=dict(classes=(...)) to the json's names"
            )
        if len(classes) >= IGNORED_CLASS:
            raise ValueError(
                f'expected at most {IGNORED_CLASS - 1} classes, got {len(classes)}: label {IGNORED_CLASS} means ignore'
            )
        # mmdet numbers the labels in the json's order, whatever the order of the names.
        order = [name for name in in_json if name in classes]
        if order != classes:
            raise ValueError(f'the classes must be in the order of {self.ann_file}: expected {order}, got {classes}')

    def parse_data_info(self, raw_data_info: dict) -> dict:
        if not hasattr(self, '_classes_checked'):
            self._check_classes()
            self._classes_checked = True
        info = raw_data_info['raw_img_info']
        annotations = [a for a in raw_data_info['raw_ann_info'] if a['category_id'] in self.cat_ids]
        for annotation in annotations:
            self._check_mask(annotation, info)
        data_info = super().parse_data_info(raw_data_info)
        kept = {id(instance['mask']) for instance in data_info['instances'] if 'mask' in instance}
        for annotation in annotations:
            segmentation = annotation['segmentation']
            if segmentation and id(segmentation) not in kept:
                data_info['instances'].append(_ignored_instance(annotation, self.cat2label[annotation['category_id']]))
        void = set(self.coco.get_cat_ids(cat_names=[VOID])) - set(self.cat_ids)
        data_info['instances'] += [
            _ignored_instance(annotation, label=0)  # nothing reads the label of an ignored instance
            for annotation in raw_data_info['raw_ann_info']
            if annotation['category_id'] in void
        ]
        return data_info

    def _check_mask(self, annotation: dict, info: dict) -> None:
        name = f'annotation {annotation["id"]} of picture {info["file_name"]}'
        segmentation = annotation.get('segmentation')
        if not segmentation:
            raise ValueError(f'{self.ann_file}: {name} has no "segmentation"; pixel embeddings are trained on masks')
        width, height = info['width'], info['height']
        if isinstance(segmentation, dict):
            if list(segmentation['size']) != [height, width]:
                raise ValueError(
                    f'{self.ann_file}: {name} has a mask of size {segmentation["size"]}, expected {[height, width]}'
                )
            return
        for polygon in segmentation:
            xs, ys = polygon[0::2], polygon[1::2]
            if polygon and not (
                min(xs) >= -_RIM and max(xs) <= width + _RIM and min(ys) >= -_RIM and max(ys) <= height + _RIM
            ):
                self._outside.append(
                    f'{name}: x {min(xs):g} to {max(xs):g} of {width}, y {min(ys):g} to {max(ys):g} of {height}'
                )
                return


def _ignored_instance(annotation: dict, label: int) -> dict:
    x, y, width, height = annotation['bbox']
    return {
        'bbox': [x, y, x + width, y + height],
        'bbox_label': label,
        'mask': annotation['segmentation'],
        'ignore_flag': 1,
    }


@DATASETS.register_module()
class DigitsDataset(CocoInstanceDataset):
    """Handwritten digits on 64 x 64 canvases; a split that is absent is written to ``data_root``. See ``datasets/digits.py``."""

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
