"""Contrast normalisation of images."""

import numpy as np


def check_percentiles(low: float, high: float) -> None:
    """Raises ValueError unless 0 <= low < high <= 100."""
    if not 0 <= low < high <= 100:
        raise ValueError(f'expected percentiles 0 <= low < high <= 100, got {low} and {high}')


def normalize_percentiles(
    image_HWC: np.ndarray, low: float = 1.0, high: float = 99.8, per_channel: bool = False
) -> np.ndarray:
    r"""Maps two percentiles of an image to 0 and 1, and clips values outside.

    .. math:: y = \min(1, \max(0, (x - p_{low}) / (p_{high} - p_{low})))

    A linear change of the contrast (``a x + b`` with a > 0), or another type for the same values, leaves the result as it is.
    Computed in float64: it holds every 32 bit integer, and the difference of any two of them.

    Args:
        image_HWC: (H, W) or (H, W, C) integers of any width, or floating point.
        low, high: percentiles, 0 <= low < high <= 100; StarDist and EmbedSeg use 1 and 99.8.
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
    limits = percentile_limits(image_HWC, low, high, per_channel)
    return stretch_contrast(image_HWC, *limits)


def percentile_limits(
    image_HWC: np.ndarray, low: float = 1.0, high: float = 99.8, per_channel: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The two percentiles that :func:`normalize_percentiles` maps to 0 and 1; arguments and errors are the same.

    Returns:
        the lower and the higher one, float64: () of all values, (C,) of each channel.

    Example:
        >>> percentile_limits(np.array([[100, 150, 300]], np.uint16), low=0, high=50)
        (np.float64(100.0), np.float64(150.0))
    """
    check_percentiles(low, high)
    if image_HWC.ndim not in (2, 3) or image_HWC.size == 0:
        raise ValueError(f'expected an image (H, W) or (H, W, C) with pixels, got {image_HWC.shape}')
    dark, bright = np.percentile(_in_float64(image_HWC), (low, high), axis=(0, 1) if per_channel else None)
    return dark, bright


def stretch_contrast(image_HWC: np.ndarray, dark: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """Maps the value ``dark`` to 0 and ``bright`` to 1, and cuts off what lies beyond; see :func:`normalize_percentiles`.

    Args:
        image_HWC: (H, W) or (H, W, C) integers or floating point.
        dark, bright: () or (C,), of :func:`percentile_limits`, of this image or of the one that it is a part of.

    Raises:
        ValueError: if the type or a value does not fit.

    Example:
        >>> stretch_contrast(np.array([[100, 150, 500]], np.uint16), np.float64(100), np.float64(300)).tolist()
        [[0.0, 0.25, 1.0]]
    """
    image_HWC = _in_float64(image_HWC)
    span = np.where(bright > dark, bright - dark, np.finfo(np.float32).tiny)
    return ((image_HWC - dark) / span).clip(0, 1).astype(np.float32)


def check_pixels(image_HWC: np.ndarray) -> None:
    """Raises ValueError unless the pixels are integers or finite floating point."""
    if not (np.issubdtype(image_HWC.dtype, np.integer) or np.issubdtype(image_HWC.dtype, np.floating)):
        raise ValueError(f'expected integers or floating point, got {image_HWC.dtype}')
    if not np.isfinite(image_HWC).all():
        raise ValueError('expected finite pixels, got NaN or infinity: fill them, with the background for example')


def _in_float64(image_HWC: np.ndarray) -> np.ndarray:
    check_pixels(image_HWC)
    return image_HWC.astype(np.float64)
