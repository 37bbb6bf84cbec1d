"""Hook that draws images during a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.registry import HOOKS
from torch import Tensor

from .drawing import class_map_to_color, draw_instances, embeddings_to_color, panel, read_for_display
from .output_paths import OutputPaths, image_folder_of


def draw_panel(data_sample: DetDataSample, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Draws input, class map, embedding as colour, instances and, if known, the ground truth side by side: one RGB
    image.

    ``pred_embeddings`` may have an ``image_box`` (top, left, bottom, right), in pixels, in its metainfo: the part of the image
    that it covers, as one window of several does.

    The input has a contrast for the eye; see :func:`read_for_display`.

    For boundary detection: input, the embedding of each stage as colour, boundaries, and the mean of the annotators.
    """
    image = read_for_display(data_sample.img_path)
    if 'pred_boundary' in data_sample:
        images = {'input': image, **_boundary_images(data_sample)}
    else:
        images = {'input': image, **_instance_images(data_sample, image, palette)}
    return panel(list(images.values()), list(images))


def _instance_images(
    data_sample: DetDataSample, image: np.ndarray, palette: Sequence[Sequence[int]]
) -> dict[str, np.ndarray]:
    class_map = data_sample.pred_sem_seg.data[0].cpu().numpy()
    images = {'class map': class_map_to_color(class_map, palette)}
    title, embedding = _embedding_image(data_sample.pred_embeddings, class_map)
    images[title] = embedding
    instance_map = data_sample.pred_instance_map.data[0].cpu().numpy()
    images[f'{len(data_sample.pred_instances)} instances'] = draw_instances(image, instance_map)
    if 'gt_instance_map' in data_sample:
        truth = data_sample.gt_instance_map.data[0].cpu().numpy()
        count = len(np.unique(truth[truth > 0]))
        images[f'ground truth ({count})'] = draw_instances(image, truth)
    return images


def _embedding_image(pred_embeddings: PixelData, class_map_HW: np.ndarray) -> tuple[str, np.ndarray]:
    """Title and image of an embedding map; the map of a window is drawn at the window's position, on grey."""
    embeddings_Dhw = pred_embeddings.data.float().cpu().numpy()
    whole = (0, 0, *class_map_HW.shape)
    top, left, bottom, right = box = tuple(pred_embeddings.get('image_box', whole))
    window_HW = class_map_HW[top:bottom, left:right]
    colors_hw3 = embeddings_to_color(embeddings_Dhw, _foreground(window_HW, embeddings_Dhw.shape[1:]))
    if box == whole:
        return 'embedding', colors_hw3
    canvas_HW3 = np.full((*class_map_HW.shape, 3), 128, np.uint8)
    size = (right - left, bottom - top)
    canvas_HW3[top:bottom, left:right] = cv2.resize(colors_hw3, size, interpolation=cv2.INTER_NEAREST)
    return 'embedding of one window', canvas_HW3


def _boundary_images(data_sample: DetDataSample) -> dict[str, np.ndarray]:
    embeddings = data_sample.pred_embeddings
    stages = embeddings.data.float().cpu().split(embeddings.embedding_dims)
    images = {f'stage {number}': embeddings_to_color(x.numpy()) for number, x in enumerate(stages)}
    images['boundaries'] = _grey(data_sample.pred_boundary.data[0])
    if 'gt_boundaries' in data_sample:
        truth_AHW = data_sample.gt_boundaries.data
        images[f'ground truth of {len(truth_AHW)}'] = _grey(truth_AHW.float().mean(0))
    return images


def _grey(share_HW: Tensor) -> np.ndarray:
    """Boundary map in grey: dark lines on white, as boundaries are printed."""
    return (255 * (1 - share_HW.cpu().numpy())).round().astype(np.uint8)[..., None].repeat(3, axis=2)


def _foreground(class_map_HW: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The foreground of the class map, resampled to the head's map."""
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
        for new, old in zip(size, class_map_HW.shape, strict=True)
    )
    return class_map_HW[rows[:, None], columns[None, :]] > 0


@HOOKS.register_module()
class PanelHook(Hook):
    """Saves drawings (:func:`draw_panel`) of the first images of a test as ``<folder>/<name of the image>.png``.

    An image in a subfolder of the data set's image folder gets the same subfolder here, and no image overwrites another; see
    :class:`OutputPaths`.

    Args:
        folder: made if absent.
        count: images to draw on each process.
    """

    def __init__(self, folder: str, count: int = 50) -> None:
        self.folder, self.count = Path(folder), count
        self._drawn = 0
        self._paths: OutputPaths | None = None

    def before_test(self, runner: Runner) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._drawn, self._paths = 0, None

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        dataset = runner.test_dataloader.dataset
        metainfo = dataset.metainfo
        # mmdet's ConcatDataset has a list; all its sets have the same classes.
        palette = (metainfo if isinstance(metainfo, dict) else metainfo[0]).get('palette', [])
        for data_sample in outputs[: max(0, self.count - self._drawn)]:
            path = data_sample.img_path
            if self._paths is None:
                self._paths = OutputPaths(self.folder, image_folder_of(dataset) or Path(path).parent)
            image = draw_panel(data_sample, palette)
            mmcv.imwrite(image[..., ::-1], str(self._paths.of(path)))
            self._drawn += 1

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        runner.logger.info(f'{self._drawn} images in {self.folder}')
