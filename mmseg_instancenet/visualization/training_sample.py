"""Drawings of the images and maps that a network is trained on."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmdet.structures import DetDataSample
from torch import Tensor

from .drawing import class_map_to_color, contrast_for_display, draw_instances, panel


def channels_for_display(inputs_CHW: np.ndarray, bgr: bool) -> np.ndarray:
    """An image of any number of channels C and any depth as (H, W, 3) uint8 in RGB, with a contrast for the eye.

    One channel is grey; of two, the first is red and the second green; of more than three the first three are drawn.

    Args:
        inputs_CHW: (C, H, W), integers or floating point.
        bgr: whether three channels are blue, green and red, as OpenCV reads them.

    Example:
        >>> channels_for_display(np.array([[[0, 255]], [[255, 0]]], np.uint8), bgr=False).tolist()
        [[[0, 255, 0], [255, 0, 0]]]
    """
    count = len(inputs_CHW)
    if count == 1:
        image_HW3 = inputs_CHW.repeat(3, axis=0).transpose(1, 2, 0)
    elif count == 2:
        image_HW3 = np.stack([*inputs_CHW, np.zeros_like(inputs_CHW[0])], axis=2)
    else:
        image_HW3 = inputs_CHW[:3].transpose(1, 2, 0)
    if bgr and count == 3:
        image_HW3 = image_HW3[..., ::-1]
    return contrast_for_display(np.ascontiguousarray(image_HW3))


def draw_sample(
    inputs_CHW: Tensor, data_sample: DetDataSample, palette: Sequence[Sequence[int]] | None = None, bgr: bool = True
) -> np.ndarray:
    """The output of a pipeline: image, class map and instances side by side, those that it has, as one RGB image.

    Ignored pixels are grey in both maps. Where the maps have the original size of the image and the image does not, as in
    testing, the image is resized to theirs.

    Args:
        inputs_CHW: (C, H, W), see :func:`channels_for_display`.
        data_sample: of ``PackInstanceMaps``.
        palette: colours of the classes.
        bgr: see :func:`channels_for_display`.
    """
    image_HW3 = channels_for_display(inputs_CHW.numpy(), bgr)
    height, width = image_HW3.shape[:2]
    images = {f'image {height} x {width}': image_HW3}
    if 'gt_sem_seg' in data_sample:
        images['class map'] = class_map_to_color(data_sample.gt_sem_seg.data[0].numpy(), palette)
    if 'gt_instance_map' in data_sample:
        instance_map_HW = data_sample.gt_instance_map.data[0].numpy()
        size = instance_map_HW.shape[::-1]
        below = image_HW3 if image_HW3.shape[1::-1] == size else cv2.resize(image_HW3, size)
        images[f'{len(np.unique(instance_map_HW[instance_map_HW > 0]))} instances'] = draw_instances(
            below, instance_map_HW
        )
    if 'gt_boundaries' in data_sample:
        share_HW = data_sample.gt_boundaries.data.float().mean(0).numpy()
        images['boundaries'] = (255 * (1 - share_HW)).round().astype(np.uint8)[..., None].repeat(3, axis=2)
    return panel(list(images.values()), list(images))
