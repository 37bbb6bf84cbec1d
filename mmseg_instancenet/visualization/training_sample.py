"""Drawings of the images and maps that a network is trained on."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmdet.structures import DetDataSample
from torch import Tensor

from .drawing import class_map_to_color, draw_instances, panel, pixels_for_display


def draw_sample(
    inputs_CHW: Tensor, data_sample: DetDataSample, palette: Sequence[Sequence[int]] | None = None, bgr: bool = True
) -> np.ndarray:
    """The output of a pipeline: image, class map and instances side by side, those that it has, as one RGB image.

    Ignored pixels are grey in both maps. Where the maps have the original size of the image and the image does not, as in
    testing, the image is resized to theirs.

    Args:
        inputs_CHW: (C, H, W), see :func:`pixels_for_display`.
        data_sample: of ``PackInstanceMaps``.
        palette: colours of the classes.
        bgr: whether three channels are blue, green and red, as OpenCV reads them.
    """
    pixels_HWC = inputs_CHW.numpy().transpose(1, 2, 0)
    image_HW3 = pixels_for_display(pixels_HWC[..., ::-1] if bgr and len(inputs_CHW) == 3 else pixels_HWC)
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
