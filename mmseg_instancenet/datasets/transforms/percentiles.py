"""One contrast for images whose values use a small and varying part of their range, as those of microscopes do."""

from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from ...structures import check_percentiles, normalize_percentiles


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
        check_percentiles(low, high)
        self.low, self.high, self.per_channel = low, high, per_channel

    def transform(self, results: dict) -> dict:
        try:
            results['img'] = normalize_percentiles(results['img'], self.low, self.high, self.per_channel)
        except ValueError as error:
            raise ValueError(f'{results.get("img_path") or "image"}: {error}') from error
        return results
