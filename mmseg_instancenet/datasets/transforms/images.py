"""Image loading with errors that name the file, and without a cut of 16-bit values to 8 bits."""

import warnings
from typing import Any

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmengine.fileio import get
from mmseg.registry import TRANSFORMS

from ...structures import check_pixel_count, decode_image, decode_tiff, is_damaged_png, is_damaged_tiff, is_tiff

_FORMS = {
    'color': cv2.IMREAD_COLOR,
    'grayscale': cv2.IMREAD_GRAYSCALE,
    'color_ignore_orientation': cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    'grayscale_ignore_orientation': cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION,
    'unchanged': cv2.IMREAD_UNCHANGED,
}
"""OpenCV's flag for each of mmcv's names of ``color_type``."""


@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """Loads an image file; replaces mmcv's ``LoadImageFromFile``, under the same name, in configs with ``default_scope
    = 'mmseg'``.

    Images of up to 8 bits are read as mmcv reads them, one bit as 0 and 255. There are two differences:

    - A file that is empty, cut off, damaged or no image is named in the error.
    - mmcv divides 16 bits by 256: a camera's 12 bits become 0 to 15, and the network gets black images. Here an image of more
      than 8 bits (16, 32, floating point) is scaled, keeps its values, or is refused:

      - With ``max_value`` it is multiplied by 255 / ``max_value`` and rounded to 8 bits (not rounded with ``to_float32``);
        values outside 0 to 255 are clipped. This is one rule for all images of a set, whatever the values of each. An image of 8
        bits among them stays as it is.
      - ``color_type=3``, that is ``cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH``, gives BGR, and ``color_type='unchanged'`` the
        channels of the file; both keep all values, for :class:`NormalizePercentiles`, which takes any range.
      - Else it is refused.

    Required key: img_path. Added keys: img, (H, W, 3) BGR of 'color' and (H, W) of 'grayscale'; img_shape, ori_shape.

    Args:
        max_value: the value that becomes 255: 4095 for 12 bits, 65535 for 16, 1.0 for floating point from 0 to 1.
        **kwargs: mmcv's ``color_type`` ('color' unless given), ``to_float32``, ``imdecode_backend`` ('cv2'; 'tifffile' reads any
            number of channels, see :func:`decode_tiff`), ``backend_args`` and ``ignore_empty``.

    Raises:
        ValueError: for a file that is no whole image, has more than 8 bits and no rule for them, or more pixels than the limit
            (:func:`check_pixel_count`); it names the file.
        OSError: for a file that is not there or cannot be opened.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), 'image.png')
        >>> cv2.imwrite(path, np.array([[0, 819, 4095]], np.uint16))
        True
        >>> LoadImageFromFile(color_type='grayscale', max_value=4095)({'img_path': path})['img'].tolist()
        [[0, 51, 255]]
    """

    def __init__(self, *, max_value: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.file_client_args is not None:
            raise ValueError(f'expected backend_args, got its old name file_client_args={self.file_client_args}')
        if max_value is not None and not 0 < max_value < float('inf'):
            raise ValueError(f'expected max_value > 0, the value that becomes 255, got {max_value!r}')
        if not isinstance(self.color_type, int) and self.color_type not in _FORMS:
            raise ValueError(
                f"expected color_type out of {sorted(_FORMS)} or a number of OpenCV's, got {self.color_type!r}"
            )
        self.max_value = max_value
        self._form: int = self.color_type if isinstance(self.color_type, int) else _FORMS[self.color_type]

    @property
    def keeps_values(self) -> bool:
        """Whether the loading step keeps the values of images of more than 8 bits."""
        return self.max_value is None and bool(self._form & cv2.IMREAD_ANYDEPTH)  # all bits of IMREAD_UNCHANGED are set

    def transform(self, results: dict) -> dict | None:
        try:
            image = self._read(results['img_path'])
        except (OSError, ValueError) as error:
            if self.ignore_empty:
                warnings.warn(f'left out, since ignore_empty=True: {error}', stacklevel=2)
                return None
            raise
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results

    def _read(self, path: str) -> np.ndarray:
        content = get(path, backend_args=self.backend_args)
        if not content:
            raise ValueError(f'{path}: expected an image, got a file of 0 bytes: copy it again, or leave it out')
        check_pixel_count(content, path)
        problem = 'it is cut off, damaged or no image, or has a side of more than 2^20 pixels'
        try:
            image = self._decode(content)
        except Exception as error:  # each backend raises errors of other types
            image, problem = None, repr(error)
        if image is None:
            raise ValueError(
                f'{path}: expected an image that {self.imdecode_backend} reads, got {len(content)} bytes that it does not '
                f'read: {problem}'
            )
        if image.dtype == bool:  # one bit, by pillow and tifffile
            image = image.astype(np.uint8) * 255
        return self.in_range(image, path)

    def in_range(self, image: np.ndarray, path: str) -> np.ndarray:
        """The values that the step gives for those that a file holds: the rules for more than 8 bits, and ``to_float32``.

        Args:
            image: of any shape; a part of an image gives the part of the result.
            path: for errors.

        Raises:
            ValueError: if there is no rule for the values; it names the file.
        """
        if image.dtype != np.uint8 and not self.keeps_values:
            image = self._in_eight_bits(image, path)
        return image.astype(np.float32) if self.to_float32 else image

    @property
    def color_form(self) -> int:
        """``color_type`` as OpenCV's number."""
        return self._form

    def _decode(self, content: bytes) -> np.ndarray | None:
        if is_damaged_png(content) or (is_tiff(content) and is_damaged_tiff(content)):
            return None  # Pillow would decode it
        if self.imdecode_backend in ('cv2', 'pillow'):
            image = decode_image(content, self._form)
            if self.imdecode_backend == 'cv2' or (image is not None and image.dtype != np.uint8):
                return image  # pillow cuts more than 8 bits off, in most of its forms
        if self.imdecode_backend == 'tifffile' and is_tiff(content):
            return decode_tiff(content)
        return mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)

    def _in_eight_bits(self, image: np.ndarray, path: str) -> np.ndarray:
        if self.max_value is None:
            raise ValueError(
                f'{path}: expected 8 bits, got {image.dtype} up to {image.max()} and no rule to scale them. Set max_value of '
                'LoadImageFromFile, the value that becomes 255 in every image of the set (4095 for 12 bits, 65535 for 16, 1.0 '
                "for floating point from 0 to 1); or color_type=3 (BGR) or 'unchanged' (the channels of the file), which keep "
                "the values, with dict(type='NormalizePercentiles') after it"
            )
        if not np.isfinite(image).all():
            raise ValueError(f'{path}: expected finite values, got NaN or infinity: fill them, with 0 for example')
        image = (image.astype(np.float32) * (255 / self.max_value)).clip(0, 255)
        return image if self.to_float32 else image.round().astype(np.uint8)

    def __repr__(self) -> str:
        return f'{super().__repr__()[:-1]}, max_value={self.max_value})'
