"""Kinds of image files that are not plain 8-bit colour, each with the colours that Pillow reads."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 274
"""Number of the tag of EXIF and TIFF."""


def write_kinds(folder: Path, size: tuple[int, int] = (64, 48)) -> dict[str, np.ndarray]:
    """Writes a file of each kind; returns its upright colours, (H, W, 3) RGB of 8 bits, by the name of the file."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    colour = Image.fromarray(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC))
    transparent = colour.convert('RGBA')
    transparent.putalpha(colour.convert('L'))
    images = {f'cmyk{ending}': colour.convert('CMYK') for ending in ('.jpg', '.tif')}
    for ending in ('.jpg', '.png', '.tif'):
        images[f'grey{ending}'] = colour.convert('L')
    for ending in ('.png', '.tif'):
        images |= {f'palette{ending}': colour.quantize(50), f'transparent{ending}': transparent}
        images |= {f'grey-transparent{ending}': colour.convert('LA'), f'one-bit{ending}': colour.convert('1')}
    for name, image in images.items():
        image.save(folder / name)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        for ending in ('.jpg', '.png', '.tif'):
            name = f'orientation-{orientation}{ending}'
            colour.save(folder / name, exif=exif)
            images[name] = colour
    colours = {}
    for name in images:
        with Image.open(folder / name) as image:
            colours[name] = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    return colours
