"""Rotation and crop of a picture together with its two label maps.

mmdet's ``Rotate`` fills the corners of masks with 0, which would make background of what nobody has seen, and blends the
masks of neighbours, which leaves gaps between them. So these two come after ``MasksToMaps``, where the maps have values of
their own for *ignore* and every pixel keeps exactly one label.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmseg.registry import TRANSFORMS

from ...structures import IGNORED_CLASS, IGNORED_INSTANCE

_IGNORED = {'gt_seg_map': IGNORED_CLASS, 'gt_instance_map': IGNORED_INSTANCE}


@TRANSFORMS.register_module()
class RandomRotateMaps(BaseTransform):
    """Rotates the picture and its maps about its center by a random angle; the size stays.

    Corners that come into view are ``border`` in the picture, 255 in the class map and -1 in the instance map.

    Required and changed keys: img, gt_seg_map, gt_instance_map, homography_matrix.

    Args:
        degrees: the angle is uniform in -degrees .. degrees.
        border: the corners' value in each channel, in the order of the loaded picture (BGR). The mean of the
            preprocessor becomes zero in the network's input.
    """

    def __init__(self, degrees: float, border: Sequence[float] = (103.53, 116.28, 123.675)) -> None:
        if not 0 < degrees <= 180:
            raise ValueError(f'expected 0 < degrees <= 180, got {degrees}')
        self.degrees, self.border = degrees, tuple(border)

    @cache_randomness
    def _angle(self) -> float:
        return np.random.uniform(-self.degrees, self.degrees)

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), self._angle(), 1)
        results['img'] = cv2.warpAffine(results['img'], matrix, (width, height), borderValue=self.border)
        for key, value in _maps(results).items():
            # OpenCV rotates no int64; float64 holds every id.
            rotated = cv2.warpAffine(
                results[key].astype(np.float64), matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=value
            )
            results[key] = rotated.astype(results[key].dtype)
        _record(results, matrix)
        return results


@TRANSFORMS.register_module()
class RandomCropMaps(BaseTransform):
    """Crops about ``margin`` pixels away from the picture and its maps, at random from either side.

    A side of s pixels becomes the largest multiple of ``divisor`` that is at most s - margin (``divisor`` where that
    is 0, s where s is smaller still); each position of the crop is equally likely.

    Required and changed keys: img, img_shape, gt_seg_map, gt_instance_map, homography_matrix.

    Args:
        margin: pixels.
        divisor: of both sides of the crop; a network whose strides divide it needs no padding.
    """

    def __init__(self, margin: int = 20, divisor: int = 8) -> None:
        if margin < 0 or divisor < 1:
            raise ValueError(f'expected margin >= 0 and divisor >= 1 pixels, got {margin} and {divisor}')
        self.margin, self.divisor = margin, divisor

    @cache_randomness
    def _span(self, side: int) -> tuple[int, int]:
        length = min(side, max(self.divisor, (side - self.margin) // self.divisor * self.divisor))
        start = np.random.randint(side - length + 1)
        return start, start + length

    def transform(self, results: dict) -> dict:
        (top, bottom), (left, right) = (self._span(side) for side in results['img'].shape[:2])
        for key in ('img', *_maps(results)):
            results[key] = results[key][top:bottom, left:right]
        results['img_shape'] = results['img'].shape[:2]
        _record(results, np.array([[1, 0, -left], [0, 1, -top]]))
        return results


def _maps(results: dict) -> dict[str, int]:
    if any(key not in results for key in _IGNORED):
        raise KeyError(f"expected {' and '.join(_IGNORED)}: put dict(type='MasksToMaps') before it")
    return _IGNORED


def _record(results: dict, matrix_23: np.ndarray) -> None:
    """Notes the change where the head's coordinates look for it, as mmdet's transforms do."""
    matrix = np.vstack([matrix_23, [0, 0, 1]]).astype(np.float32)
    before = results.get('homography_matrix')
    results['homography_matrix'] = matrix if before is None else matrix @ before
