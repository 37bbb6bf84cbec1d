"""Synthetic images of handwritten digits: a data set that needs no download.

Modelled on the toy set of Kong & Fowlkes (CVPR 2018, figure 4): scikit-learn's handwritten digits (1797 real 8 x 8
scans) on canvases of 64 x 64. Several digits of an image often share their class and touch or overlap, so
that a class map alone does not separate them.
"""

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

CLASSES = tuple(str(digit) for digit in range(10))

CANVAS = 64
_SIDE = 16
"""Height and width, in pixels, to which the 8 x 8 originals are enlarged: strokes then measure two to three pixels."""
_INK = 0.5
"""Share of full ink above which a pixel belongs to the digit."""
_COUNTS = (2, 3, 4, 5)
_REPEAT = 0.4
"""Probability that a further digit takes the class of one already there and is placed touching it."""
_MAX_OVERLAP = 0.1
"""A digit covers at most this share of another, or is covered by it, so that both stay readable."""
_VALIDATION_SHARE = 0.2
_DESCRIPTION = "scikit-learn's handwritten digits"


class Canvas(NamedTuple):
    """A synthetic image of digits: image (64, 64) uint8; masks (K, 64, 64) bool, disjoint; classes (K,); touching (K,)
    bool."""

    image: np.ndarray
    masks: np.ndarray
    classes: np.ndarray
    touching: np.ndarray


def load_originals(split: str) -> dict[int, np.ndarray]:
    """The enlarged digits of one split, by class: (M, 16, 16) float 0 .. 1. No original is in both splits.

    Args:
        split: 'train' or 'val'; the first 20 % of each class are 'val'.
    """
    if split not in ('train', 'val'):
        raise ValueError(f"expected split 'train' or 'val', got {split!r}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('the digits need scikit-learn: pip install "mmseg_instancenet[digits]"') from error
    digits = load_digits()
    originals = {}
    for digit in range(10):
        of_class = digits.images[digits.target == digit].astype(np.float32) / 16
        held_out = int(len(of_class) * _VALIDATION_SHARE)
        chosen = of_class[:held_out] if split == 'val' else of_class[held_out:]
        originals[digit] = np.stack(
            [np.clip(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC), 0, 1) for image in chosen]
        )
    return originals


def compose(originals: dict[int, np.ndarray], rng: np.random.Generator) -> Canvas:
    """Draws one canvas with two to five digits.

    Ink adds up to the darker of the two; a pixel that two digits ink belongs to the one with more ink there.
    """
    while True:
        canvas = _try_compose(originals, rng)
        if canvas is not None:
            return canvas


def _try_compose(originals: dict[int, np.ndarray], rng: np.random.Generator) -> Canvas | None:
    ink: list[np.ndarray] = []
    classes: list[int] = []
    for _ in range(rng.choice(_COUNTS)):
        repeat = bool(classes) and rng.random() < _REPEAT
        digit = int(rng.choice(classes)) if repeat else int(rng.integers(10))
        stamp = originals[digit][rng.integers(len(originals[digit]))]
        placed = _place(stamp, digit, ink, classes, repeat, rng)
        if placed is None:
            return None
        ink.append(placed)
        classes.append(digit)
    ink_KHW = np.stack(ink)
    top = ink_KHW.max(0)
    masks = (ink_KHW > _INK) & (np.arange(len(ink))[:, None, None] == ink_KHW.argmax(0))
    touching = np.array(
        [
            any((_grown(masks[a]) & masks[b]).any() for b in range(len(masks)) if a != b and classes[a] == classes[b])
            for a in range(len(masks))
        ]
    )
    return Canvas((top * 255).round().astype(np.uint8), masks, np.array(classes), touching)


def _grown(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def _place(
    stamp: np.ndarray,
    digit: int,
    ink: list[np.ndarray],
    classes: list[int],
    touch: bool,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """Places a digit at random where it hides little of the others, and where it touches one of its own class if
    ``touch``."""
    for _ in range(200):
        row, column = rng.integers(0, CANVAS - _SIDE + 1, 2)
        placed = np.zeros((CANVAS, CANVAS), np.float32)
        placed[row : row + _SIDE, column : column + _SIDE] = stamp
        mask = placed > _INK
        shares = [(mask & (other > _INK)).sum() / min(mask.sum(), (other > _INK).sum()) for other in ink]
        if max(shares, default=0) > _MAX_OVERLAP:
            continue
        if touch and not any(
            (_grown(mask) & (other > _INK)).any()
            for other, other_class in zip(ink, classes, strict=True)
            if other_class == digit
        ):
            continue
        return placed
    return None


def write_digits(folder: Path, num_train: int = 5000, num_val: int = 500, seed: int = 0) -> None:
    """Writes ``train.json``, ``val.json`` (COCO format, RLE masks) and the images under ``train/`` and ``val/``.

    A split whose json is there is whole, and is left as it is.

    Args:
        folder: made if absent.
        num_train, num_val: number of images.
        seed: of the generator; the same seed writes the same files.

    Raises:
        ValueError: if only one split is to be written, and the other is one of another data set.
    """
    folder = Path(folder)
    present = [path for path in (folder / 'train.json', folder / 'val.json') if path.exists()]
    if len(present) == 1 and not _is_of_digits(present[0]):
        raise ValueError(
            f'expected no file or one of the digits, got {present[0]} of another data set: give the digits a data_root of '
            'their own'
        )
    for index, (split, count) in enumerate({'train': num_train, 'val': num_val}.items()):
        if folder / f'{split}.json' in present:
            continue
        rng = np.random.default_rng([seed, index])
        originals = load_originals(split)
        (folder / split).mkdir(parents=True, exist_ok=True)
        images: list[dict] = []
        annotations: list[dict] = []
        for image_id in range(1, count + 1):
            canvas = compose(originals, rng)
            name = f'{image_id:05d}.png'
            cv2.imwrite(str(folder / split / name), canvas.image)
            images.append({'id': image_id, 'file_name': name, 'height': CANVAS, 'width': CANVAS})
            for mask, digit in zip(canvas.masks, canvas.classes, strict=True):
                annotations.append(dict(_annotation(mask, int(digit)), id=len(annotations) + 1, image_id=image_id))
        coco = {
            'info': {'description': f'{_DESCRIPTION}, composed with seed {seed}'},
            'images': images,
            'annotations': annotations,
            'categories': [{'id': digit + 1, 'name': name} for digit, name in enumerate(CLASSES)],
        }
        # The json is written last and moved into place at once: if it exists, the set is complete.
        partial = folder / f'{split}.json.partial'
        partial.write_text(json.dumps(coco))
        partial.rename(folder / f'{split}.json')


def _is_of_digits(path: Path) -> bool:
    info = json.loads(path.read_text()).get('info', {})
    return str(info.get('description')).startswith(_DESCRIPTION)


def _annotation(mask: np.ndarray, digit: int) -> dict:
    from pycocotools import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        'category_id': digit + 1,
        'iscrowd': 0,
        'area': int(mask.sum()),
        'bbox': coco_mask.toBbox(rle).tolist(),
        'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode()},
    }
