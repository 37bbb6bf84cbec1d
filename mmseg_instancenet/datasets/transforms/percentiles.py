"""Contrast normalisation for images whose values use a small and varying part of their range, such as microscopy
images."""

from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from ...structures import check_percentiles, normalize_percentiles, stretch_contrast


@TRANSFORMS.register_module()
class NormalizePercentiles(BaseTransform):
    """Replaces the image by its :func:`normalize_percentiles`, before resizes and crops, in training and in testing
    alike.

    The data preprocessor then has no ``mean`` and no ``std``: the network gets values from 0 to 1.

    An image of more than 8 bits keeps its values only if they are read so; :class:`LoadImageFromFile` refuses it otherwise:

    - ``color_type=3``, that is ``cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH``: three channels (BGR), of grey files too, and the
      depth of the file. This is the one for a network of three channels. OpenCV's number has no name in mmcv;
    - ``color_type='unchanged'``: the values of the file, (H, W) of a grey file, for a network of one channel, and four
      channels of a file with transparency. ``imdecode_backend='tifffile'`` reads any number of channels.

    A part of a large image gets the contrast of the whole: where ``contrast_limits`` is given, those two values are mapped to 0
    and 1 instead of the percentiles of the part.

    Required and changed key: img. Optional key: contrast_limits, of :func:`percentile_limits`.

    Args:
        low, high, per_channel: of :func:`normalize_percentiles`.
    """

    def __init__(self, low: float = 1.0, high: float = 99.8, per_channel: bool = False) -> None:
        check_percentiles(low, high)
        self.low, self.high, self.per_channel = low, high, per_channel

    def transform(self, results: dict) -> dict:
        limits = results.get('contrast_limits')
        try:
            if limits is None:
                results['img'] = normalize_percentiles(results['img'], self.low, self.high, self.per_channel)
            else:
                results['img'] = stretch_contrast(results['img'], *limits)
        except ValueError as error:
            raise ValueError(f'{results.get("img_path") or "image"}: {error}') from error
        return results
