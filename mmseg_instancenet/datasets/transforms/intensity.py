"""Random augmentation of intensities, for images with any number of channels.

torchvision's and mmdet's photometric transforms take one or three channels of 8 bits; here the image is floating point, 0 to 1.
"""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmseg.registry import TRANSFORMS

_ROUNDING = 1e-4
"""A resize may leave 0 .. 1 by this much."""


@TRANSFORMS.register_module()
class RandomIntensity(BaseTransform):
    r"""Changes the intensities of an image with values from 0 to 1 at random, in the order below; the maps do not
    change.

    1. gamma, gain and offset: :math:`y = a x^{\gamma} + b`, with :math:`\log\gamma`, a and b uniform;
    2. blur by a Gaussian;
    3. noise, the same normal distribution for every pixel and channel;
    4. grey: the mean of the channels in place of each;
    5. inversion: 1 - y, as between fluorescence and bright field.

    At the end values outside 0 .. 1 are clipped. The image becomes float32.

    Required and changed key: img, floating point, (H, W) or (H, W, C); see :class:`NormalizePercentiles`.

    Args:
        log_gamma: half width of the range of log gamma.
        gain: range of a.
        offset: half width of the range of b.
        blur: probability, and ``blur_sigma`` the largest standard deviation in pixels.
        noise: probability, and ``noise_sigma`` the largest standard deviation.
        grey, invert: probabilities.
    """

    def __init__(
        self,
        log_gamma: float = 0.4,
        gain: tuple[float, float] = (0.7, 1.2),
        offset: float = 0.1,
        blur: float = 0.15,
        blur_sigma: float = 1.5,
        noise: float = 0.3,
        noise_sigma: float = 0.05,
        grey: float = 0.2,
        invert: float = 0.15,
    ) -> None:
        for name, value in {'blur': blur, 'noise': noise, 'grey': grey, 'invert': invert}.items():
            if not 0 <= value <= 1:
                raise ValueError(f'expected a probability 0 <= {name} <= 1, got {value}')
        for name, value in {
            'log_gamma': log_gamma,
            'offset': offset,
            'blur_sigma': blur_sigma,
            'noise_sigma': noise_sigma,
        }.items():
            if not value >= 0:
                raise ValueError(f'expected {name} >= 0, got {value}')
        if len(gain) != 2 or not 0 < gain[0] <= gain[1]:
            raise ValueError(f'expected gain=(lowest, highest) with 0 < lowest <= highest, got {gain}')
        self.log_gamma, self.gain, self.offset = log_gamma, gain, offset
        self.blur, self.blur_sigma, self.noise, self.noise_sigma = blur, blur_sigma, noise, noise_sigma
        self.grey, self.invert = grey, invert

    @cache_randomness
    def _draw(self, shape: tuple[int, ...]) -> dict:
        uniform = np.random.uniform
        return {
            'gamma': float(np.exp(uniform(-self.log_gamma, self.log_gamma))),  # numpy's float64 would widen the image
            'gain': uniform(*self.gain),
            'offset': uniform(-self.offset, self.offset),
            'blur': uniform(0, self.blur_sigma) if uniform() < self.blur else 0.0,
            'noise': np.random.normal(0, uniform(0, self.noise_sigma), shape) if uniform() < self.noise else 0.0,
            'grey': uniform() < self.grey,
            'invert': uniform() < self.invert,
        }

    def transform(self, results: dict) -> dict:
        image = results['img']
        fits = image.min() >= -_ROUNDING and image.max() <= 1 + _ROUNDING  # false for NaN
        if not np.issubdtype(image.dtype, np.floating) or not fits:
            raise ValueError(
                f'RandomIntensity expected a floating point image from 0 to 1, got {image.dtype} from {image.min()} to '
                f"{image.max()}: put dict(type='NormalizePercentiles') before it"
            )
        draw = self._draw(image.shape)
        image = draw['gain'] * image.astype(np.float32).clip(0, 1) ** draw['gamma'] + draw['offset']
        if draw['blur'] > 0:
            image = cv2.GaussianBlur(image, (0, 0), draw['blur']).reshape(image.shape)
        image = image + draw['noise']
        if draw['grey'] and image.ndim == 3:
            image = np.repeat(image.mean(2, keepdims=True), image.shape[2], axis=2)
        if draw['invert']:
            image = 1 - image
        results['img'] = image.clip(0, 1).astype(np.float32)
        return results
