"""Checks for suspicious masks in an image."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ...structures import MaskCrop
from .findings import Findings

NEARLY_WHOLE = 0.95
"""Share of the pixels of an image."""


def check_masks(
    crops: Sequence[MaskCrop],
    pixel_K: np.ndarray,
    size: tuple[int, int],
    name: str,
    ids: Sequence[int],
    findings: Findings,
) -> None:
    """Finds objects with the mask of another, and objects on nearly the whole image.

    Args:
        crops: masks of K objects of an image.
        pixel_K: (K,) pixels of each.
        size: (height, width) of the image.
        name: of the image.
        ids: of the K annotations.
        findings: counts the findings.
    """
    for place in np.flatnonzero(pixel_K >= NEARLY_WHOLE * size[0] * size[1]).tolist():
        share = 100 * pixel_K[place] / (size[0] * size[1])
        findings.add('whole-image', f'annotation {ids[place]} of image {name}: {share:.0f} % of it')
    alike = defaultdict(list)
    for place, (top, left, mask_hw) in enumerate(crops):
        alike[top, left, mask_hw.shape, int(pixel_K[place])].append(place)
    for places in alike.values():
        different: list[int] = []
        for place in places:
            equal = next((one for one in different if np.array_equal(crops[one].mask_hw, crops[place].mask_hw)), None)
            if equal is None:
                different.append(place)
            else:
                findings.add('same-mask', f'annotations {ids[equal]} and {ids[place]} of image {name}')
