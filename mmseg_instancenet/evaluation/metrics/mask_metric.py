"""Base of the metrics that compare the predicted masks of an image with those of the annotation file."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from ...datasets.transforms.load_masks import crops_of
from ...datasets.transforms.masks_to_maps import masks_to_maps
from ...structures import BoxedMasks
from .coco_metric import CocoInstanceMetric


class ImageMasks(NamedTuple):
    """Masks (run-length encoded, of the image's size) of one image; labels are classes from 0.

    ``masks_K`` are the predicted ones in order of falling score, void cut out of them.
    """

    masks_K: list[dict]
    scores_K: np.ndarray
    labels_K: np.ndarray
    objects_G: list[dict]
    object_labels_G: np.ndarray
    crowds_J: list[dict]
    crowd_labels_J: np.ndarray


def truth_maps(masks: ImageMasks, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Class map and instance map of the ground truth, (H, W) int64, as :func:`masks_to_maps` paints them; object g is g + 1.

    Args:
        masks: of an image.
        size: (height, width) of the image.
    """
    crops = crops_of([*masks.objects_G, *masks.crowds_J])
    is_crowd = np.arange(len(crops)) >= len(masks.objects_G)
    labels = np.concatenate([masks.object_labels_G, masks.crowd_labels_J])
    return masks_to_maps(BoxedMasks(crops, *size), labels, is_crowd)


def predicted_map(masks: ImageMasks, size: tuple[int, int]) -> np.ndarray:
    """Instance map of the predicted masks, (H, W) int64, painted as the ground truth is; mask k is k + 1."""
    predicted = masks._replace(
        objects_G=masks.masks_K, object_labels_G=masks.labels_K, crowds_J=[], crowd_labels_J=np.array([], int)
    )
    return truth_maps(predicted, size)[1]


class MaskMetric(CocoInstanceMetric):
    """Base of metrics that compare the predicted masks of each image with an annotation file, image by image.

    The prediction is ``pred_instances`` (scores, labels, boxes, masks run-length encoded or (K, H, W)), the ground truth
    the COCO json of the data set (:class:`CocoInstanceDataset`) or ``ann_file``. Void is cut out of the predicted masks as
    in :class:`CocoInstanceMetric`; masks without a pixel are left out. Only the result of :meth:`compare`, numbers without
    masks, is kept of an image and sent between processes. Only images that were predicted count.

    Args:
        ann_file: COCO json; that of the data set unless given.
        collect_device, prefix: see MMEngine's ``BaseMetric``.
    """

    needs_ann_file = True
    """Whether ground truth in label maps is refused."""

    def __init__(self, ann_file: str | None = None, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(ann_file=ann_file, metric='segm', collect_device=collect_device, prefix=prefix)

    @abstractmethod
    def compare(self, masks: ImageMasks, image_id: Any) -> Any:
        """Compares the masks of an image; returns its part of the input of :meth:`compute_metrics`."""

    def _process_sample(self, data_batch: dict, sample: dict, ann_file: str | None) -> None:
        if ann_file is None and self.needs_ann_file:
            raise ValueError(
                f'{type(self).__name__} has no ground truth: use CocoInstanceDataset with test_mode=True, or set ann_file '
                'to a COCO json'
            )
        super()._process_sample(data_batch, sample, ann_file)
        truth, prediction = self.results.pop()
        self.results.append(self.compare(self._image_masks(truth, prediction), prediction['img_id']))

    def _image_masks(self, truth: dict, prediction: dict) -> ImageMasks:
        image_id, classes = prediction['img_id'], self.dataset_meta['classes']
        labels_K, masks_K = prediction['labels'], prediction['masks']
        scores_K = prediction.get('mask_scores', prediction['scores'])  # as mmdet's CocoMetric for masks
        if len(labels_K) and not (labels_K.min() >= 0 and labels_K.max() < len(classes)):
            raise ValueError(
                f'expected labels 0 .. {len(classes) - 1}, got {labels_K.min()} .. {labels_K.max()} (img_id {image_id!r})'
            )
        if not np.isfinite(scores_K).all():
            raise ValueError(f'expected finite scores, got {scores_K} (img_id {image_id!r})')
        size = [truth['height'], truth['width']]
        for mask in masks_K:
            if list(mask['size']) != size:
                raise ValueError(
                    f'expected masks of the original size {size} of the image, got {mask["size"]} (img_id {image_id!r})'
                )
        # By descending score; equal scores keep their order.
        order_K = [index for index in np.argsort(-scores_K, kind='stable') if coco_mask.area(masks_K[index]) > 0]
        objects = self._objects_of_maps(truth) if self._coco_api is None else self._objects_of_file(image_id)
        return ImageMasks([masks_K[index] for index in order_K], scores_K[order_K], labels_K[order_K], *objects)

    def _objects_of_maps(self, truth: dict) -> tuple:
        masks = [annotation['mask'] for annotation in truth['anns']]
        labels = [annotation['bbox_label'] for annotation in truth['anns']]
        return masks, np.array(labels, int), *self._masks_and_labels([])

    def _objects_of_file(self, image_id: Any) -> tuple:
        coco = self._coco_api
        self.cat_ids = coco.get_cat_ids(cat_names=self.dataset_meta['classes'])
        if len(self.cat_ids) != len(self.dataset_meta['classes']):
            raise ValueError(
                f'expected the classes {self.dataset_meta["classes"]} in the annotation file, which has '
                f'{[category["name"] for category in coco.dataset["categories"]]}'
            )
        objects: list[dict] = []
        crowds: list[dict] = []
        for annotation in coco.load_anns(coco.get_ann_ids(img_ids=[image_id], cat_ids=self.cat_ids)):
            (crowds if annotation.get('iscrowd', 0) else objects).append(annotation)
        return *self._masks_and_labels(objects), *self._masks_and_labels(crowds)

    def _masks_and_labels(self, annotations: Sequence[dict]) -> tuple[list[dict], np.ndarray]:
        labels = [self.cat_ids.index(annotation['category_id']) for annotation in annotations]
        return [self._coco_api.annToRLE(annotation) for annotation in annotations], np.array(labels, int)
