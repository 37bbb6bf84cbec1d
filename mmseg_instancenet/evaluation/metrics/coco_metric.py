"""COCO AP of instances, official and without the limit of 100 detections."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmengine.fileio import dump, load
from mmengine.logging import MMLogger
from mmseg.registry import METRICS
from pycocotools import mask as coco_mask

from ..functional.annotation_files import AnnotationFiles, join
from ..functional.coco_ap import match_images, mean_ap
from ..functional.map_objects import MapObjects, map_objects
from ..functional.void import remove_void

_COCO_LIMIT = 100
"""Detections of an image and class that COCO's AP counts."""

_AP_NAMES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
"""Values that mmdet returns for each kind of AP by default."""


@METRICS.register_module()
class CocoInstanceMetric(CocoMetric):
    """COCO AP of masks and boxes: mmdet's ``CocoMetric`` with six additions.

    - Without ``ann_file`` it reads that of the data set (:class:`CocoInstanceDataset`), so that a config names it once, or those
      of several joined data sets. All are read by :func:`read_annotations`.
    - Without either the objects are those of ``gt_instance_map`` and ``gt_sem_seg``, both (1, H, W) at the image's original size
      (see :func:`map_objects`); images without ``img_id`` are numbered in the order of the data set.
    - ``segm_mAP_all`` stands beside the official ``segm_mAP``: the same average over IoU 0.5:0.05:0.95, without COCO's limit of
      100 detections an image (nuclei images hold hundreds).
    - Only images that were evaluated count: a data set with ``indices`` is a part of its annotation file.
    - Where the whole set has no detection, as early in a training, the metrics are COCO's for that, 0, and have their keys,
      so that ``save_best`` works; mmdet returns none. Where the ground truth has no object they are -1, as COCO's are, and
      where no image was evaluated NaN.
    - Void (an annotation of the category ``void``, see ``evaluation/void.py``) is cut out of the predicted masks of its image
      before they are matched. Their boxes are then those of the remaining pixels, and a mask without any is no
      detection: predictions on void pixels change no metric. In the maps void is -1 and 255.

    Args: those of ``CocoMetric``; ``metric`` is ``['segm', 'bbox']`` unless given.
    """

    # Attributes of mmdet's class, which has no type annotations: the ground truth (None if it is in label maps), ids of classes.
    _coco_api: Any
    cat_ids: Any

    def __init__(
        self, ann_file: str | None = None, metric: str | Sequence[str] = ('segm', 'bbox'), **kwargs: Any
    ) -> None:
        super().__init__(metric=[metric] if isinstance(metric, str) else list(metric), **kwargs)
        self.ann_file = ann_file
        self._files = AnnotationFiles(of_the_data_set=ann_file is None, backend_args=self.backend_args)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            self._process_sample(data_batch, sample, self.ann_file or sample.get('ann_file'))

    def _process_sample(self, data_batch: dict, sample: dict, ann_file: str | None) -> None:
        """Stores the detections of an image for the metrics; its ground truth is in an annotation file or in its label
        maps."""
        classes = self.dataset_meta['classes']
        if ann_file is None:
            self._coco_api = None
            truth = self._objects_of(sample)
            super().process(data_batch, [_with_objects(sample, truth)])
            void = truth.void
        else:
            self._coco_api = self._files.open(ann_file, classes)
            self._check_image(sample, ann_file)
            super().process(data_batch, [sample])
            void = self._files.void(ann_file, classes).get(sample['img_id'])
        truth, prediction = self.results[-1]
        truth['ann_file'] = ann_file
        if void is not None and 'masks' in prediction:
            _cut_void(prediction, void)

    def _objects_of(self, sample: dict) -> MapObjects:
        missing = [name for name in ('gt_instance_map', 'gt_sem_seg') if name not in sample]
        if missing:
            raise ValueError(
                f'{type(self).__name__} has no ground truth: neither an ann_file nor {" and ".join(missing)} in the data '
                'samples. Use CocoInstanceDataset with test_mode=True, set ann_file to a COCO json, or load the two label maps '
                'in the test pipeline (PackInstanceMaps packs gt_instance_map and gt_seg_map)'
            )
        instance_map_HW, class_map_HW = (
            torch.as_tensor(sample[name]['data'])[0].cpu().numpy() for name in ('gt_instance_map', 'gt_sem_seg')
        )
        size = tuple(sample['ori_shape'][:2])
        if instance_map_HW.shape != size:
            raise ValueError(
                f'expected gt_instance_map at the original size {size} of the image, got {instance_map_HW.shape}: in the test '
                'pipeline the annotations are loaded after the resize'
            )
        num_classes, background = len(self.dataset_meta['classes']), sample.get('background', True)
        return map_objects(instance_map_HW, class_map_HW, num_classes, background)

    def _check_image(self, sample: dict, ann_file: str) -> None:
        if 'img_id' not in sample:
            raise ValueError(
                f'{type(self).__name__} finds an image in its annotation file by img_id, which the data samples lack: use '
                'CocoInstanceDataset, or CocoInstanceMetric without ann_file, which takes gt_instance_map and gt_sem_seg for the '
                'ground truth'
            )
        image = self._coco_api.imgs.get(sample['img_id'])
        if image is None:
            raise ValueError(f'expected an image of {ann_file}, got img_id {sample["img_id"]!r}: is it the right file?')
        size = tuple(sample['ori_shape'][:2])
        if size != (image['height'], image['width']):
            raise ValueError(
                f'{ann_file}: expected {image["file_name"]} to have the height and width {(image["height"], image["width"])}, '
                f'got an image of {size}: was it resized or turned after it was annotated?'
            )

    def compute_metrics(self, results: list) -> dict[str, Any]:
        self._uncapped: list[dict] = []
        if not results:
            MMLogger.get_current_instance().warning('no image was evaluated: every AP is NaN')
            names = [f'{metric}_{name}' for metric in self.metrics for name in self.metric_items or _AP_NAMES]
            return dict.fromkeys([*names, *(['segm_mAP_all'] if 'segm' in self.metrics else [])], float('nan'))
        if not any(len(prediction['labels']) for _, prediction in results) and not self.format_only:
            MMLogger.get_current_instance().warning(
                'no instance was found in the whole data set: every AP is 0, or -1 where there is no object to find'
            )
        results = self._find_truth(results)
        # mmdet takes all images of the annotation file, also those that the data set leaves out (`indices`).
        self.img_ids = [truth['img_id'] for truth, _ in results]
        metrics = super().compute_metrics(results)
        if 'segm' in self.metrics and not self.format_only:
            metrics['segm_mAP_all'] = self._mean_ap_of_all() if self._uncapped else metrics['segm_mAP']
            MMLogger.get_current_instance().info(
                f'segm_mAP_all (no limit of detections): {metrics["segm_mAP_all"]:.3f}'
            )
        return metrics

    def _find_truth(self, results: Sequence[tuple[dict, dict]]) -> list[tuple[dict, dict]]:
        """Sets the ground truth of the evaluated images; returns their results with unique ids."""
        self.cat_ids = None  # mmdet keeps those of the last evaluation
        file_of = [truth['ann_file'] for truth, _ in results]
        names, classes = list(dict.fromkeys(file_of)), self.dataset_meta['classes']
        if names == [None]:
            self._coco_api = None
            return _with_unique_ids(results)
        if None in names:
            raise ValueError(
                f'{type(self).__name__}: expected all images from annotation files or all from label maps, got '
                f'{file_of.count(None)} of {len(results)} without an annotation file: evaluate the data sets one by one'
            )
        if len(names) == 1:
            self._coco_api = self._files.open(names[0], classes)
            return list(results)
        self._coco_api, number_of = join({name: self._files.open(name, classes) for name in names}, list(classes))
        return _numbered(results, [number_of[truth['ann_file'], truth['img_id']] for truth, _ in results])

    def gt_to_coco_json(self, gt_dicts: Sequence[dict], outfile_prefix: str) -> str:
        """Converts ground truth to a COCO json as mmdet does, but with the area of the mask: mmdet's area of the box
        makes small objects count as large."""
        path = super().gt_to_coco_json(gt_dicts, outfile_prefix)
        truth = load(path)
        for annotation in truth.get('annotations', []):
            annotation['area'] = float(coco_mask.area(annotation['segmentation']))
        dump(truth, path)
        return path

    def results2json(self, results: Sequence[dict], outfile_prefix: str) -> dict:
        files = super().results2json(results, outfile_prefix)
        self._coco_api.loadRes = partial(_load_results, self._coco_api)
        # Loaded here, since mmdet removes its files at the end.
        limited = max(len(result['labels']) for result in results) > _COCO_LIMIT
        if 'segm' in files and (limited or 'mAP' not in (self.metric_items or ['mAP'])):
            self._uncapped = load(files['segm'])
        return files

    def _mean_ap_of_all(self) -> float:
        for detection in self._uncapped:
            detection.pop('bbox')  # else COCO takes the box's area for the mask's
        detections = self._coco_api.loadRes(self._uncapped)
        return round(mean_ap(match_images(self._coco_api, detections, self.cat_ids, self.img_ids, self.iou_thrs)), 3)


def _with_objects(sample: dict, objects: MapObjects) -> dict:
    """A copy of the data sample with ``instances`` as mmdet's ``CocoMetric`` reads them, and with an ``img_id``,
    ``None`` if it has none."""
    instances = []
    for mask, label in zip(objects.masks_G, objects.label_G.tolist(), strict=True):
        x, y, width, height = coco_mask.toBbox(mask).tolist()
        instances.append({'bbox': [x, y, x + width, y + height], 'bbox_label': label, 'mask': mask})
    return {**sample, 'img_id': sample.get('img_id'), 'instances': instances}


def _with_unique_ids(results: Sequence[tuple[dict, dict]]) -> list[tuple[dict, dict]]:
    """Numbers the images unless all ids are present and different.

    Only here, where the results of all processes lie in the order of the data set: numbers that each process counts would
    collide. Ids repeat where data sets are joined.
    """
    image_ids = [truth['img_id'] for truth, _ in results]
    return list(results) if len(set(image_ids) - {None}) == len(results) else _numbered(results, range(len(results)))


def _numbered(results: Sequence[tuple[dict, dict]], numbers: Iterable[int]) -> list[tuple[dict, dict]]:
    return [
        ({**truth, 'img_id': number}, {**prediction, 'img_id': number})
        for (truth, prediction), number in zip(results, numbers, strict=True)
    ]


def _load_results(coco: COCO, results: list) -> COCO:
    """``COCO.loadRes`` that also accepts an empty list of detections."""
    if results:
        return COCO.loadRes(coco, results)
    nothing = COCO()
    nothing.dataset = dict(coco.dataset, annotations=[])
    return nothing


def _cut_void(prediction: dict, void: dict) -> None:
    masks = remove_void(prediction['masks'], void)
    kept = np.array([coco_mask.area(mask) > 0 for mask in masks], bool)
    for key in ('scores', 'labels', 'mask_scores'):
        if key in prediction:
            prediction[key] = prediction[key][kept]
    prediction['masks'] = [mask for mask, keep in zip(masks, kept, strict=True) if keep]
    box_K4 = np.array([coco_mask.toBbox(mask) for mask in prediction['masks']], np.float32).reshape(-1, 4)
    box_K4[:, 2:] += box_K4[:, :2]  # from (x, y, width, height) to corners
    prediction['bboxes'] = box_K4
