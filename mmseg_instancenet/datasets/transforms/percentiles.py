"""One contrast for images whose values use a small and varying part of their range, as those of microscopes do."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS


def normalize_percentiles(
    image_HWC: np.ndarray, low: float = 1.0, high: float = 99.8, per_channel: bool = False
) -> np.ndarray:
    r"""Maps two percentiles of an image to 0 and 1, and cuts off what lies beyond.

    .. math:: y = \min(1, \max(0, (x - p_{low}) / (p_{high} - p_{low})))

    A linear change of the contrast (``a x + b`` with a > 0), or another type for the same values, leaves the result as it is.
    Computed in float64: it holds every 32 bit integer, and the difference of any two of them.

    Args:
        image_HWC: (H, W) or (H, W, C) integers of any width, or floating point.
        low, high: percentiles, 0 <= low < high <= 100; 1 and 99.8 are what StarDist and EmbedSeg use.
        per_channel: percentiles of each channel instead of all at once, for channels of different stains. The colours of a
            photograph need common percentiles.

    Returns:
        float32 of the same shape. Where the two percentiles are equal, 0 up to them and 1 above.

    Raises:
        ValueError: if the shape, the type, the percentiles or a value do not fit.

    Example:
        >>> normalize_percentiles(np.array([[100, 150, 300]], np.uint16), low=0, high=100).tolist()
        [[0.0, 0.25, 1.0]]
    """
    if image_HWC.ndim not in (2, 3) or image_HWC.size == 0:
        raise ValueError(f'expected an image (H, W) or (H, W, C) with pixels, got {image_HWC.shape}')
    if not 0 <= low < high <= 100:
        raise ValueError(f'expected percentiles 0 <= low < high <= 100, got {low} and {high}')
    if not (np.issubdtype(image_HWC.dtype, np.integer) or np.issubdtype(image_HWC.dtype, np.floating)):
        raise ValueError(f'expected integers or floating point, got {image_HWC.dtype}')
    image_HWC = image_HWC.astype(np.float64)
    if not np.isfinite(image_HWC).all():
        raise ValueError('expected finite pixels, got NaN or infinity: fill them, with the background for example')
    axes = (0, 1) if per_channel else None
    dark, bright = np.percentile(image_HWC, (low, high), axis=axes, keepdims=True)
    span = np.where(bright > dark, bright - dark, np.finfo(np.float32).tiny)
    return ((image_HWC - dark) / span).clip(0, 1).astype(np.float32)


@TRANSFORMS.register_module()
class NormalizePercentiles(BaseTransform):
    """Puts :func:`normalize_percentiles` of the image in its place, before resizes and crops, in training and in testing alike.

    The data preprocessor then has no ``mean`` and no ``std``: the network sees 0 to 1.

    An image of 16 bits keeps them only if they are read. mmcv's ``LoadImageFromFile`` reads 8 bits of them unless told
    otherwise, so that a dark image becomes steps of a few greys. Its settings (files png and tif, mmcv 2.1, OpenCV 4.14):

    - ``color_type='color'``, the default, with or without ``to_float32``, and ``'grayscale'``: uint8, the upper 8 bits;
    - ``color_type=3``, that is ``cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH``: 16 bits and three channels (BGR), of grey files
      too. 8 bit files are read as ever, so this is the one for a network of three channels. mmcv hands the number on to
      OpenCV; it has no name for it;
    - ``color_type='unchanged'``: what the file holds, (H, W) of a grey file, for a network of one channel, and four channels of
      a file with transparency. The one setting of OpenCV's that reads floating point tif. ``imdecode_backend='pillow'`` reads
      grey likewise, but 8 bits of 16 bit colour.

    Required and changed key: img.

    Args:
        low, high, per_channel: of :func:`normalize_percentiles`.
    """

    def __init__(self, low: float = 1.0, high: float = 99.8, per_channel: bool = False) -> None:
        if not 0 <= low < high <= 100:
            raise ValueError(f'expected percentiles 0 <= low < high <= 100, got {low} and {high}')
        self.low, self.high, self.per_channel = low, high, per_channel

    def transform(self, results: dict) -> dict:
        try:
            results['img'] = normalize_percentiles(results['img'], self.low, self.high, self.per_channel)
        except ValueError as error:
            raise ValueError(f'{results.get("img_path") or "image"}: {error}') from error
        return results
