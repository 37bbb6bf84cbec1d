"""Small folders of images and masks, and plain ways to read them."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

HEIGHT, WIDTH = 32, 40


def labels(seed: int, dtype: str = 'uint8', numbers: tuple[int, ...] = (3, 7, 200)) -> np.ndarray:
    """A label image: a rectangle for each number, the second one in two pieces, the last one in contact with the first."""
    rng = np.random.default_rng(seed)
    values = np.zeros((HEIGHT, WIDTH), dtype)
    top, left = (int(value) for value in rng.integers(1, 6, 2))
    values[top : top + 8, left : left + 9] = numbers[0]
    if len(numbers) > 1:
        values[20:26, left : left + 5] = numbers[1]
        values[20:26, left + 12 : left + 16] = numbers[1]
    if len(numbers) > 2:
        values[top + 8 : top + 10, left + 2 : left + 12] = numbers[2]
    return values


def write(path: Path, values: np.ndarray, **options) -> None:
    """Writes png by Pillow and tif by tifffile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.tif':
        tifffile.imwrite(path, values, **options)
    else:
        Image.fromarray(values).save(path, **options)


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    write(path, np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


def folder_of(root: Path, count: int = 3) -> Path:
    """``images/`` and ``masks/`` with label images 0.png, 1.png, ..; see :func:`labels`."""
    for seed in range(count):
        write_image(root / f'images/{seed}.png', seed)
        write(root / f'masks/{seed}.png', labels(seed))
    return root


def plain_maps(values: np.ndarray, ignore_label: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Class map and instance map of a label image of one class, by loops over its values."""
    class_map = np.zeros(values.shape, np.int64)
    instance_map = np.zeros(values.shape, np.int64)
    number = 0
    for value in sorted({int(value) for value in values.ravel()} - {0}):
        if value == ignore_label:
            class_map[values == value], instance_map[values == value] = 255, -1
            continue
        number += 1
        class_map[values == value], instance_map[values == value] = 1, number
    return class_map, instance_map
