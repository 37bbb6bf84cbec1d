"""Resizing to a longer side, with no side below one pixel."""

from typing import Any

from mmdet.datasets.transforms import Resize
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeLongerSide(Resize):
    """mmdet's ``Resize`` to a longer side of ``length`` pixels with the aspect ratio kept, no side below one pixel.

    mmdet's own ``keep_ratio`` rounds the shorter side of a 1 x 4000 image to 0 and fails in OpenCV.

    Args:
        length: pixels of the longer side; 513 is InstanceNet's.
        **kwargs: ``interpolation``, ``backend``, ``clip_object_border`` of mmdet's ``Resize``.
    """

    def __init__(self, length: int, **kwargs: Any) -> None:
        if length < 1:
            raise ValueError(f'expected a length >= 1 pixel, got {length}')
        super().__init__(scale=(length, length), keep_ratio=False, **kwargs)
        self.length = length

    def _resize_img(self, results: dict) -> None:
        height, width = results['img'].shape[:2]
        factor = self.length / max(height, width)
        results['scale'] = (max(1, round(width * factor)), max(1, round(height * factor)))
        super()._resize_img(results)
