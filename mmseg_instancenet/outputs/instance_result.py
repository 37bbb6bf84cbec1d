"""The instances of one image in numpy arrays, for programs without torch and OpenMMLab."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from mmdet.structures import DetDataSample

from ..datasets.transforms.load_masks import crops_of
from ..structures import MaskCrop, RunLengthMasks
from .outlines import Polygon, mask_outlines


@dataclass(frozen=True)
class InstanceResult:
    """The K instances of one image at its own size, in numpy arrays.

    Attributes:
        labels: (H, W) int32, 0 = no instance, k = instance k. Where masks overlap, as those of proposals may, a pixel has the
            instance with the best score.
        class_indices: (K,) int64, places in ``class_names``, from 0.
        scores: (K,) float32, 0 to 1; the order of the instances is that of the model, not that of the scores.
        boxes: (K, 4) float32, (x1, y1, x2, y2) in pixels, right and lower edge exclusive.
        masks: K run-length masks, as pycocotools encodes them.
        class_names: of the data set that the model was trained on.
        path: file of the image; ``None`` for an array.

    Example:
        >>> from pycocotools import mask as coco_mask
        >>> masks = RunLengthMasks([coco_mask.encode(np.asfortranarray([[0, 1, 1]], np.uint8))], (1, 3))
        >>> labels, boxes = np.array([[0, 1, 1]], np.int32), np.array([[1, 0, 3, 1]], np.float32)
        >>> scores = np.ones(1, np.float32)
        >>> result = InstanceResult(labels, np.zeros(1, np.int64), scores, boxes, masks, ('nucleus',))
        >>> len(result), result.classes, result.areas.tolist(), result.centroids.tolist()
        (1, ['nucleus'], [2], [[1.5, 0.0]])
    """

    labels: np.ndarray
    class_indices: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    masks: RunLengthMasks
    class_names: tuple[str, ...]
    path: str | None = None

    @classmethod
    def from_data_sample(
        cls, sample: DetDataSample, class_names: Sequence[str], path: str | None = None
    ) -> 'InstanceResult':
        """Builds the result from a prediction of :class:`EmbeddingSegmentor` or :class:`ProposalSegmentor`.

        Args:
            sample: with ``pred_instances`` and ``pred_instance_map``, on any device.
            class_names: of the data set that the model was trained on.
            path: file of the image.
        """
        instances = sample.pred_instances
        return cls(
            labels=sample.pred_instance_map.data[0].cpu().numpy().astype(np.int32),
            class_indices=instances.labels.cpu().numpy().astype(np.int64),
            scores=instances.scores.cpu().numpy().astype(np.float32),
            boxes=instances.bboxes.cpu().numpy().astype(np.float32),
            masks=instances.masks,
            class_names=tuple(class_names),
            path=path,
        )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def classes(self) -> list[str]:
        """The class name of each instance."""
        return [self.class_names[index] for index in self.class_indices]

    @cached_property
    def decimal_scores(self) -> list[float]:
        """The scores for files of text: the shortest decimal numbers that are these float32, .9 instead of .8999999761581421."""
        return self.scores.astype(np.float32).astype(str).astype(float).tolist()

    @cached_property
    def crops(self) -> list[MaskCrop]:
        """The masks, each cropped to its box."""
        return crops_of(self.masks)

    @cached_property
    def areas(self) -> np.ndarray:
        """Area of each mask in pixels, (K,) int64."""
        return np.array([np.count_nonzero(crop.mask_hw) for crop in self.crops], np.int64)

    @cached_property
    def centroids(self) -> np.ndarray:
        """Centroid of each mask, (K, 2) float64: mean (x, y) of its pixels; the middle of the upper left pixel is (0,
        0)."""
        centroid_K2 = np.zeros((len(self), 2))
        for centroid_2, crop in zip(centroid_K2, self.crops, strict=True):
            row_P, column_P = crop.mask_hw.nonzero()
            centroid_2[:] = crop.left + column_P.mean(), crop.top + row_P.mean()
        return centroid_K2

    @cached_property
    def outlines(self) -> list[list[Polygon]]:
        """The pieces of each mask as polygons with holes, along the edges of the pixels; see :func:`mask_outlines`."""
        return mask_outlines(self.crops)
