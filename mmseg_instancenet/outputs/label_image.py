"""Label images: 0 = no instance, k = instance k."""

from pathlib import Path

import cv2
import numpy as np
import tifffile

from .instance_result import InstanceResult

_ENDINGS = ('.png', '.tif')
_MAX_16_BIT = 65535


def write_label_image(result: InstanceResult, path: str | Path, ending: str = '.png') -> Path:
    """Writes the label map of an image, without loss.

    Args:
        result: of one image.
        path: of the file, without the ending. Its folder exists.
        ending: '.png' or '.tif'. Both have 16 bits for up to 65535 instances. With more the file is a tif of 32 bits (int32,
            as OpenCV reads no unsigned ones), since a png has at most 16. Both kinds of tif are compressed by zlib.

    Returns:
        the path with the ending.

    Raises:
        ValueError: for another ending.

    Example:
        >>> import tempfile
        >>> from mmseg_instancenet.structures import RunLengthMasks
        >>> labels, nothing = np.zeros((2, 3), np.int32), np.zeros(0)
        >>> result = InstanceResult(labels, nothing, nothing, np.zeros((0, 4)), RunLengthMasks([], (2, 3)), ('nucleus',))
        >>> path = write_label_image(result, f'{tempfile.mkdtemp()}/image')
        >>> path.name, cv2.imread(str(path), cv2.IMREAD_UNCHANGED).dtype
        ('image.png', dtype('uint16'))
    """
    check_label_ending(ending)
    fits = len(result) <= _MAX_16_BIT
    path = Path(f'{path}{ending if fits else ".tif"}')
    labels: np.ndarray = result.labels.astype(np.uint16 if fits else np.int32)
    if path.suffix == '.png':
        path.write_bytes(cv2.imencode('.png', labels)[1].tobytes())
    else:
        tifffile.imwrite(path, labels, compression='zlib')
    return path


def check_label_ending(ending: str) -> None:
    """Raises ValueError unless label images can have the ending."""
    if ending not in _ENDINGS:
        raise ValueError(f'expected an ending of label images out of {", ".join(_ENDINGS)}, got {ending!r}')
