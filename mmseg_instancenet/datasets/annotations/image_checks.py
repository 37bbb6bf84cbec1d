"""Opens the images of an annotation file as in training, and compares them with the file."""

from collections import Counter
from pathlib import PurePath
from typing import NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.fileio import get
from PIL import ExifTags
from PIL.TiffImagePlugin import TiffImageFile

from ...structures import decode_image, open_header
from .findings import Findings

_BITS_PER_SAMPLE = 258
"""Number of this tag in TIFF."""


class Header(NamedTuple):
    """The header of an image file.

    Attributes:
        bits: of a channel; 8 where the header is of no known format.
        orientation: EXIF's, 1 to 8; 1 is an image that is stored as it is displayed.
        size: (height, width) as stored, or ``None`` where the header is of no known format.
    """

    bits: int
    orientation: int
    size: tuple[int, int] | None


def read_header(content: bytes) -> Header:
    """Reads the header of an image file; no pixel is decoded."""
    opened = open_header(content)
    if opened is None:
        return Header(8, 1, None)
    try:
        with opened as image:
            bits = 32 if image.mode in ('I', 'F') else 16 if image.mode.startswith('I;16') else 8
            if image.format == 'PNG':
                bits = content[24]  # Pillow has one mode for three channels of 8 and of 16 bits
            elif isinstance(image, TiffImageFile):
                bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (bits,)))
            # Pillow decodes a PNG to look for the tag behind the pixels.
            has_tag = image.format != 'PNG' or b'eXIf' in content
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if has_tag else 1
            return Header(bits, orientation if orientation in range(1, 9) else 1, image.size[::-1])
    except (OSError, SyntaxError, ValueError):
        return Header(8, 1, None)


class ImageFiles:
    """Checks image files one by one.

    Args:
        loader: the loading step of the config.
        backend_args: of the data set.
        findings: counts the findings.

    Attributes:
        deep: number of images of more than 8 bits.
        sizes: counts of (height, width) as loaded.

    Example::

        files = ImageFiles(LoadImageFromFile(), None, findings)
        files.check('images/1.png', dict(file_name='1.png', height=480, width=640))
    """

    def __init__(self, loader: BaseTransform, backend_args: dict | None, findings: Findings) -> None:
        self.loader, self.backend_args, self.findings = loader, backend_args, findings
        self.deep = 0
        self.sizes: Counter[tuple[int, int]] = Counter()

    def check(self, path: str, image: dict) -> None:
        """Opens an image and compares its size with the annotation file.

        Args:
            path: of the file.
            image: its entry of the annotation file, in the normal form.
        """
        name = image['file_name']
        try:
            content = get(path, backend_args=self.backend_args)
        except FileNotFoundError:
            self.findings.add('missing-image', path)
            return
        except OSError as error:
            self.findings.add('unreadable-image', f'{path}: {error}')
            return
        header = read_header(content)
        try:
            loaded = self.loader(dict(image, img_path=path))['img']
        except Exception as error:  # each format and each loading step raises errors of other types
            self._add_unread(path, content, header, error)
            return
        size = loaded.shape[:2]
        self.sizes[size] += 1
        if header.bits > 8:
            self.deep += 1
            # A loading step with a rule for deep images, LoadImageFromFile(max_value=..), may well make 8 bits of them.
            if loaded.dtype == np.uint8 and getattr(self.loader, 'max_value', None) is None:
                self.findings.add('depth', f'{name}: {header.bits} bits, loaded as 8')
        if size != (image['height'], image['width']):
            turned = f', EXIF orientation {header.orientation}' if header.orientation != 1 else ''
            annotated = by((image['height'], image['width']))
            self.findings.add('other-size', f'{name} is {by(size)}, in the json {annotated} (height x width){turned}')
        elif header.orientation != 1 and header.size is not None:
            stored = by(header.size)
            self.findings.add('orientation', f'{name}: {header.orientation}; stored {stored}, loaded {by(size)}')

    def _add_unread(self, path: str, content: bytes, header: Header, error: Exception) -> None:
        if not content:
            self.findings.add('unreadable-image', f'{path}: 0 bytes')
            return
        if header.bits > 8 and decode_image(content, cv2.IMREAD_UNCHANGED) is not None:
            self.deep += 1
            self.findings.add('depth', f'{PurePath(path).name}: {header.bits} bits, refused by the loading step')
            return
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self.findings.add('unreadable-image', f'{path}: {len(content)} bytes, {lines[0].removeprefix(f"{path}: ")}')

    def summary(self) -> str:
        """A line of text about the images that were opened."""
        if not self.sizes:
            return 'images opened: 0'
        least, *_, most = sorted(2 * list(self.sizes), key=lambda size: size[0] * size[1])
        return (
            f'images opened: {sum(self.sizes.values())}, {by(least)} to {by(most)} (height x width); of more than 8 bits: '
            f'{self.deep}'
        )


def by(size: tuple[int, int]) -> str:
    """Formats a size (height, width) as text."""
    return f'{size[0]} x {size[1]}'
