"""The output of a model for one image as drawings side by side."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor

from ..structures import IGNORED_CLASS
from .drawing import class_map_to_color, draw_instances, draw_scores, embeddings_to_color, panel

_HEIGHT = 256
"""Of a drawing in pixels, without the line of the titles."""


def draw_panel(
    image_HW3: np.ndarray,
    data_sample: BaseDataElement,
    palette: Sequence[Sequence[int]] | None = None,
    draw_gt: bool = True,
    draw_pred: bool = True,
) -> np.ndarray:
    """Draws an image and the parts that its data sample has, side by side under their titles: one RGB image.

    Of an :class:`EmbeddingSegmentor`: input, class map, embedding as colour, instances, their scores as greys, and the ground
    truth. Where there is ``embedding_iterations``, the embedding after each iteration of mean shift takes the place of the
    embedding, all in the colours of the first (:func:`embeddings_to_color`).

    Of a :class:`BoundarySegmentor`: input, the embedding of each stage as colour, boundaries, and the mean of the annotators.

    Args:
        image_HW3: (H, W, 3) uint8 in RGB, of the original size.
        data_sample: a result of the model. ``pred_embeddings`` and ``embedding_iterations`` hold maps of ``embedding_dims``
            values one after the other, or one map, (.., h, w). Their metainfo may have an ``image_box`` (top, left, bottom,
            right), in pixels, the part of the image that they cover, as one window of several does.
        palette: colour of each class of the data set.
        draw_gt: with the ground truth.
        draw_pred: with the results.

    Raises:
        ValueError: if the image has not the size of its maps.
    """
    for name in ('pred_sem_seg', 'pred_boundary', 'gt_instance_map', 'gt_boundaries'):
        size = tuple(data_sample.get(name).data.shape[1:]) if name in data_sample else image_HW3.shape[:2]
        if size != image_HW3.shape[:2]:
            raise ValueError(
                f'expected an image of the size {size} of {name}, got {image_HW3.shape[:2]}: give the image as it was loaded'
            )
    drawn = {'input': image_HW3}
    if draw_pred:
        class_map_HW = _class_map(data_sample)
        if class_map_HW is not None:
            drawn['class map'] = class_map_to_color(class_map_HW, palette)
        drawn |= _embedding_images(data_sample, class_map_HW)
        if 'pred_instance_map' in data_sample:
            drawn |= _instance_images(image_HW3, data_sample)
        if 'pred_boundary' in data_sample:
            drawn['boundaries'] = _grey(data_sample.pred_boundary.data[0])
    if draw_gt:
        drawn |= _truth_images(image_HW3, data_sample)
    return panel(list(drawn.values()), list(drawn), _HEIGHT)


def _class_map(data_sample: BaseDataElement) -> np.ndarray | None:
    """The predicted class map with 0 for the background, also where class 0 of the model is an object."""
    if 'pred_sem_seg' not in data_sample:
        return None
    class_map_HW = data_sample.pred_sem_seg.data[0].cpu().numpy()
    if data_sample.get('background', True):
        return class_map_HW
    return np.where(class_map_HW == IGNORED_CLASS, IGNORED_CLASS, class_map_HW + 1)


def _instance_images(image_HW3: np.ndarray, data_sample: BaseDataElement) -> dict[str, np.ndarray]:
    instance_map_HW = data_sample.pred_instance_map.data[0].cpu().numpy()
    score_K = data_sample.pred_instances.scores.detach().float().cpu().numpy()
    title = f'scores {score_K.min():.2f} to {score_K.max():.2f}' if len(score_K) else 'no scores'
    return {
        f'{len(score_K)} instances': draw_instances(image_HW3, instance_map_HW, height=_HEIGHT),
        title: draw_scores(instance_map_HW, score_K, _HEIGHT),
    }


def _truth_images(image_HW3: np.ndarray, data_sample: BaseDataElement) -> dict[str, np.ndarray]:
    if 'gt_boundaries' in data_sample:
        truth_AHW = data_sample.gt_boundaries.data
        return {f'ground truth of {len(truth_AHW)}': _grey(truth_AHW.float().mean(0))}
    if 'gt_instance_map' in data_sample:
        truth_HW = data_sample.gt_instance_map.data[0].cpu().numpy()
        count = len(np.unique(truth_HW[truth_HW > 0]))
        return {f'ground truth ({count})': draw_instances(image_HW3, truth_HW, height=_HEIGHT)}
    return {}


def _embedding_images(data_sample: BaseDataElement, class_map_HW: np.ndarray | None) -> dict[str, np.ndarray]:
    """The maps of embeddings as colours, by title."""
    if 'pred_boundary' in data_sample:  # each stage has an embedding of its own
        maps = _maps(data_sample.pred_embeddings)
        return {f'stage {number}': embeddings_to_color(x_Dhw) for number, x_Dhw in enumerate(maps)}
    iterated = 'embedding_iterations' in data_sample
    if class_map_HW is None or not (iterated or 'pred_embeddings' in data_sample):
        return {}
    embeddings = data_sample.embedding_iterations if iterated else data_sample.pred_embeddings
    first_Dhw, *others = _maps(embeddings)
    whole = (0, 0, *class_map_HW.shape)
    top, left, bottom, right = box = tuple(embeddings.get('image_box', whole))
    foreground_hw = _foreground(class_map_HW[top:bottom, left:right], first_Dhw.shape[1:])
    drawn = {}
    for number, x_Dhw in enumerate((first_Dhw, *others)):
        colors_hw3 = embeddings_to_color(x_Dhw, foreground_hw, first_Dhw)
        title = f'iteration {number}' if number else 'embedding of one window' if box != whole else 'embedding'
        drawn[title] = colors_hw3 if box == whole else _on_image(colors_hw3, box, class_map_HW.shape)
    return drawn


def _maps(embeddings: PixelData) -> list[np.ndarray]:
    """The maps (D, h, w) that lie one after the other."""
    x_Ehw = embeddings.data.float().cpu()
    return [x_Dhw.numpy() for x_Dhw in x_Ehw.split(embeddings.get('embedding_dims', len(x_Ehw)))]


def _on_image(colors_hw3: np.ndarray, box: tuple[int, int, int, int], size: Sequence[int]) -> np.ndarray:
    """The colours of a window at the window's position on the image; grey outside."""
    top, left, bottom, right = box
    canvas_HW3 = np.full((*size, 3), 128, np.uint8)
    canvas_HW3[top:bottom, left:right] = cv2.resize(
        colors_hw3, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST
    )
    return canvas_HW3


def _grey(share_HW: Tensor) -> np.ndarray:
    """Boundary map in grey: dark lines on white, as boundaries are printed."""
    return (255 * (1 - share_HW.cpu().numpy())).round().astype(np.uint8)[..., None].repeat(3, axis=2)


def _foreground(class_map_HW: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The foreground of the class map, resampled to the head's map."""
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
        for new, old in zip(size, class_map_HW.shape, strict=True)
    )
    class_map_hw = class_map_HW[rows[:, None], columns[None, :]]
    return (class_map_hw > 0) & (class_map_hw != IGNORED_CLASS)
