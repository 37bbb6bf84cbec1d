"""Rotation, quarter turns, change of scale, crop and mosaic of an image together with its label maps.

mmdet's ``Rotate`` fills the corners of masks with 0, which would turn pixels outside the image into background, and blends the
masks of neighbours, which leaves gaps between them. So these come after ``MasksToMaps``, where the maps have values of
their own for *ignore* and every pixel keeps exactly one label.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomMosaic
from mmseg.registry import TRANSFORMS

from ...structures import IGNORED_CLASS, IGNORED_INSTANCE
from .label_maps import ignore_where_class_is

_IGNORED = {'gt_seg_map': IGNORED_CLASS, 'gt_instance_map': IGNORED_INSTANCE}


@TRANSFORMS.register_module()
class RandomRotateMaps(BaseTransform):
    """Rotates the image and its maps about the image's center by a random angle; the size does not change.

    Corners that come into view are ``border`` in the image, 255 in the class map and -1 in the instance map.

    Required and changed keys: img, gt_seg_map, gt_instance_map, homography_matrix.

    Args:
        degrees: the angle is uniform in -degrees .. degrees.
        border: the corners' value in each channel, in the order of the loaded image (BGR). The mean of the
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
    """Crops about ``margin`` pixels from the image and its maps, split at random between opposite sides.

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


@TRANSFORMS.register_module()
class RandomTurnMaps(BaseTransform):
    """Turns the image and its maps by a random multiple of 90 degrees, and mirrors them with probability 1/2: eight
    cases, equally likely.

    For images without an up, as microscopes and satellites give them. Exact: no pixel is interpolated. For training only: the
    way back from a prediction to its image has flips, but no turns.

    Required and changed keys: img, img_shape, gt_seg_map, gt_instance_map, homography_matrix.
    """

    @cache_randomness
    def _case(self) -> tuple[int, bool]:
        return np.random.randint(4), bool(np.random.randint(2))

    def transform(self, results: dict) -> dict:
        turns, mirrored = self._case()
        height, width = results['img'].shape[:2]
        for key in ('img', *_maps(results)):
            turned = np.rot90(results[key], turns)
            results[key] = np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)
        results['img_shape'] = results['img'].shape[:2]
        matrix = np.eye(3)
        for _ in range(turns):  # counterclockwise: the right edge becomes the upper one
            matrix = np.array([[0, 1, 0], [-1, 0, width], [0, 0, 1]]) @ matrix
            height, width = width, height
        if mirrored:
            matrix = np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]]) @ matrix
        _record(results, matrix[:2])
        return results


@TRANSFORMS.register_module()
class RandomScaledCropMaps(BaseTransform):
    """Changes the scale of the image and its maps at random, and crops a square of ``size`` pixels in which an object lies.

    The logarithm of the scale is uniform. With a probability of ``object_share`` an object of the image is drawn, each equally
    likely, then one of its pixels; the crop holds that pixel, and all positions that do so and stay inside the image are
    equally likely. (A scale below 1 may then skip the pixel, and with it an object of a few pixels.) Otherwise, and in images
    without an object, all positions are equally likely. An image that is smaller than the crop in one direction is kept whole
    in that direction.

    Required and changed keys: img, img_shape, gt_seg_map, gt_instance_map, homography_matrix.

    Args:
        size: pixels of either side of the crop.
        scale: (smallest, largest).
        object_share: probability.
    """

    def __init__(self, size: int, scale: tuple[float, float] = (0.7, 1.4), object_share: float = 0.9) -> None:
        if size < 1:
            raise ValueError(f'expected a size >= 1 pixel, got {size}')
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f'expected scale=(smallest, largest) with 0 < smallest <= largest, got {scale}')
        if not 0 <= object_share <= 1:
            raise ValueError(f'expected a probability 0 <= object_share <= 1, got {object_share}')
        self.size, self.scale, self.object_share = size, scale, object_share

    @cache_randomness
    def _scale(self) -> float:
        return float(np.exp(np.random.uniform(*np.log(self.scale))))

    @cache_randomness
    def _pixel(self, instance_map: np.ndarray) -> np.ndarray | None:
        """(row, column) of a pixel that the crop must contain, or None."""
        if np.random.uniform() >= self.object_share:
            return None
        ids = np.unique(instance_map)
        ids = ids[ids > 0]
        if not len(ids):
            return None
        pixels = np.argwhere(instance_map == np.random.choice(ids))
        return pixels[np.random.randint(len(pixels))]

    @cache_randomness
    def _start(self, length: int, window: int, position: int | None) -> int:
        low, high = (0, length - window) if position is None else (position - window + 1, position)
        return np.random.randint(max(low, 0), min(high, length - window) + 1)

    def transform(self, results: dict) -> dict:
        maps, scale = _maps(results), self._scale()
        pixel = self._pixel(results['gt_instance_map'])
        spans, sizes = [], []
        window = max(1, round(self.size / scale))
        for axis, length in enumerate(results['img'].shape[:2]):
            taken = min(length, window)
            start = self._start(length, taken, None if pixel is None else int(pixel[axis]))
            spans.append(slice(start, start + taken))
            sizes.append(min(self.size, max(1, round(length * scale))))
        (height, width), (rows, columns) = sizes, spans
        smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = results['img'][rows, columns]
        # Channel by channel: INTER_AREA takes at most four, and returns an image of one channel without that axis.
        channels = np.atleast_3d(image).transpose(2, 0, 1)
        resized = [cv2.resize(channel, (width, height), interpolation=smooth) for channel in channels]
        results['img'] = np.stack(resized, axis=2).reshape(height, width, *image.shape[2:])
        for key in maps:
            # OpenCV resizes no int64; float64 holds every id.
            label = results[key][rows, columns].astype(np.float64)
            resized = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            results[key] = resized.astype(results[key].dtype)
        results['img_shape'] = (height, width)
        factor_y, factor_x = height / (rows.stop - rows.start), width / (columns.stop - columns.start)
        _record(results, np.array([[factor_x, 0, -factor_x * columns.start], [0, factor_y, -factor_y * rows.start]]))
        return results


@TRANSFORMS.register_module()
class RandomMosaicMaps(RandomMosaic):
    """mmseg's ``RandomMosaic`` for instances: four images side by side, with new, distinct ids for their objects.

    Each image's ids begin after those of the image before; with mmseg's own the first objects of four images would be one. It
    is a step of ``MultiImageMixDataset``, whose inner pipeline ends in maps. A mosaic is an image of its own, without
    ``homography_matrix``.

    Required and changed keys: img, img_shape, ori_shape, gt_seg_map, gt_instance_map; mix_results.

    Args:
        **kwargs: mmseg's: ``prob``, ``img_scale`` (height, width) of each image, ``center_ratio_range``, ``pad_val``,
            ``seg_pad_val``.
    """

    def transform(self, results: dict) -> dict:
        for image in (results, *results['mix_results']):
            _maps(image)
        return super().transform(results)

    def _mosaic_transform_seg(self, results: dict) -> dict:
        images, highest = [], 0
        for image in (results, *results['mix_results']):
            instance_map = ignore_where_class_is(image['gt_seg_map'], image['gt_instance_map'])
            instance_map = np.where(instance_map > 0, instance_map + highest, instance_map)
            highest = max(highest, int(instance_map.max()))
            images.append({**image, 'gt_instance_map': instance_map})
        results.update(gt_instance_map=images[0]['gt_instance_map'], mix_results=images[1:])
        results = super()._mosaic_transform_seg(results)
        results['gt_instance_map'] = ignore_where_class_is(results['gt_seg_map'], results['gt_instance_map'])
        results['img_shape'] = results['ori_shape'] = results['ori_shape_of_maps'] = results['img'].shape[:2]
        results.pop('homography_matrix', None)
        return results


def _maps(results: dict) -> dict[str, int]:
    """Yields each label map of the results with its value for *ignore* (255, mmseg's, for other maps such as depth)."""
    if any(key not in results for key in _IGNORED):
        raise KeyError(f"expected {' and '.join(_IGNORED)}: put dict(type='MasksToMaps') before it")
    return {**dict.fromkeys(results.get('seg_fields', ()), IGNORED_CLASS), **_IGNORED}


def _record(results: dict, matrix_23: np.ndarray) -> None:
    """Records the change in ``homography_matrix``, as mmdet's transforms do; the head's coordinates read it there."""
    matrix = np.vstack([matrix_23, [0, 0, 1]]).astype(np.float32)
    before = results.get('homography_matrix')
    results['homography_matrix'] = matrix if before is None else matrix @ before
