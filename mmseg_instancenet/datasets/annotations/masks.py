"""Reads and checks the masks of annotations, with their areas and boxes."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from . import polygons, run_lengths
from .findings import Findings
from .polygons import Unreadable, short

_BORDER = 1.0
"""Polygons may reach this many pixels over the border: annotation tools round that way, COCO's own too."""

_FAR = 10.0
"""Polygons that reach farther over the border, in pixels, are refused: they were drawn on another image or at another size."""

_BOX_TOLERANCE = 2.0
"""Pixels by which a side of "bbox" may differ from the mask's: tools draw boxes around polygons or around pixels."""

_LARGE = 2**40
"""Larger than any run length or coordinate of a box."""


def with_masks(entries: list[dict], names: list[str], sizes: list[tuple[int, int]], findings: Findings) -> list[dict]:
    """Selects the annotations with a valid mask, with ``segmentation``, ``area`` and ``bbox`` in the normal form.

    Args:
        entries: annotations, changed in place.
        names: of each in messages.
        sizes: (height, width) of the image of each.
        findings: counts the findings.
    """
    masks = _Masks(entries, names, sizes, findings)
    masks.read()
    masks.measure_polygons()
    masks.measure_run_lengths()
    masks.drop_empty()
    masks.set_areas()
    masks.set_boxes()
    return [entry for entry, good in zip(entries, masks.good_K, strict=True) if good]


class _Masks:
    """K annotations during the checks: which are valid so far, and the area and the box (x1, y1, x2, y2) of their
    masks."""

    def __init__(self, entries: list[dict], names: list[str], sizes: list[tuple[int, int]], findings: Findings) -> None:
        self.entries, self.names, self.sizes, self.findings = entries, names, sizes, findings
        self.height_K, self.width_K = np.array(sizes, np.int64).reshape(-1, 2).T
        self.good_K = np.ones(len(entries), bool)
        self.as_polygons_K = np.zeros(len(entries), bool)
        self.perhaps_empty_K = np.zeros(len(entries), bool)
        self.area_K, self.box_K4 = np.zeros(len(entries)), np.zeros((len(entries), 4))

    def read(self) -> None:
        """Converts each segmentation to polygons or run lengths in the normal form."""
        for place, (entry, name) in enumerate(zip(self.entries, self.names, strict=True)):
            try:
                segmentation = entry.get('segmentation')
                if type(segmentation) is list and segmentation:
                    if not (polygons.is_normal(segmentation) and polygons.are_numbers(segmentation)):
                        entry['segmentation'], found = polygons.read_rings(segmentation)
                        for check in found:
                            self.findings.add(check, name)
                    self.as_polygons_K[place] = True
                elif type(segmentation) is dict:
                    entry['segmentation'] = _run_lengths(segmentation, list(self.sizes[place]))
                elif segmentation in (None, [], ''):
                    raise Unreadable('no-mask', '')
                else:
                    raise Unreadable('segmentation-form', short(segmentation))
            except Unreadable as error:
                self.good_K[place] = False
                self.findings.add(error.check, f'{name}: {error}' if str(error) else name)

    def measure_polygons(self) -> None:
        """Refuses polygons that are unsafe for pycocotools' C code or lie outside the image, and measures the others."""
        place_J = np.flatnonzero(self.good_K & self.as_polygons_K)
        try:
            measures = polygons.measure([self.entries[place]['segmentation'] for place in place_J])
        except OverflowError:
            self._refuse(
                'coordinate',
                [place for place in place_J.tolist() if self._largest(place) > _LARGE],
                self._largest_as_text,
            )
            self.measure_polygons()
            return
        side_J2 = np.stack([self.width_K[place_J], self.height_K[place_J]], axis=1)
        low_J2, high_J2 = measures.box_K4[:, :2], measures.box_K4[:, 2:]
        with np.errstate(invalid='ignore'):
            over_J = np.maximum(-low_J2, high_J2 - side_J2).max(1)
            shares_J = measures.fractions_K & (low_J2 >= 0).all(1) & (high_J2 <= 1).all(1) & (side_J2 > 2).any(1)
        finite_J = measures.finite_K

        def extent(place: int) -> str:
            left, top, right, bottom = measures.box_K4[np.searchsorted(place_J, place)]
            width, height = self.width_K[place], self.height_K[place]
            return f'x {left:g} to {right:g} of {width}, y {top:g} to {bottom:g} of {height}'

        self._refuse('coordinate', place_J[~finite_J], self._first_not_finite)
        self._refuse('shares', place_J[finite_J & shares_J])
        self._refuse('outside', place_J[finite_J & (over_J > _FAR)], extent)
        over_the_border = place_J[finite_J & ~shares_J & (over_J > _BORDER) & (over_J <= _FAR)]
        for place in over_the_border:
            self.findings.add('over-the-border', f'{self.names[place]}: {extent(place)}')
        self.area_K[place_J], self.box_K4[place_J] = measures.area_K, measures.box_K4
        # A polygon that is thin everywhere may pass between the centers of all pixels, one at the border may lie outside.
        self.perhaps_empty_K[place_J] = (measures.area_K <= measures.perimeter_K) | (over_J > 0)
        for place in over_the_border:
            # Clipped as run lengths: clipping the points would move the edges between them.
            mask = self._rasterized(place)
            self.entries[place]['segmentation'] = {'size': mask['size'], 'counts': mask['counts'].decode()}
            self.as_polygons_K[place] = self.perhaps_empty_K[place] = False

    def measure_run_lengths(self) -> None:
        """Refuses run lengths whose sum is not the number of pixels of the image, and measures the others."""
        places = np.flatnonzero(self.good_K & ~self.as_polygons_K).tolist()
        counts = [self.entries[place]['segmentation']['counts'] for place in places]
        for of_this_kind, read in ((str, run_lengths.decode_counts), (list, run_lengths.join_counts)):
            chosen = [index for index, count in enumerate(counts) if type(count) is of_this_kind]
            place_J = np.array([places[index] for index in chosen], np.int64)
            runs = read([counts[index] for index in chosen])
            measures = run_lengths.measure(runs, self.height_K[place_J])
            pixels_J = self.height_K[place_J] * self.width_K[place_J]
            wrong_J = ~runs.readable_K | measures.negative_K | (measures.covered_K != pixels_J)
            covered = dict(zip(place_J.tolist(), measures.covered_K.tolist(), strict=True))
            self._refuse(
                'counts',
                place_J[wrong_J],
                partial(self._covered_as_text, covered),
            )
            self.area_K[place_J], self.box_K4[place_J] = measures.area_K, measures.box_K4

    def drop_empty(self) -> None:
        """Leaves out masks without pixels."""
        self._refuse('no-pixel', np.flatnonzero(self.good_K & ~self.as_polygons_K & (self.area_K == 0)))
        for place in np.flatnonzero(self.good_K & self.perhaps_empty_K).tolist():
            if coco_mask.area(self._rasterized(place)) == 0:
                self._refuse('no-pixel', [place])

    def set_areas(self) -> None:
        """Replaces each ``area`` that is not a positive number by the number of pixels of the mask."""
        for place in np.flatnonzero(self.good_K).tolist():
            entry = self.entries[place]
            area: Any = entry.get('area')
            if type(area) in (int, float) and 0 < area < np.inf:
                continue
            self.findings.add('area', f'{self.names[place]}: {short(area)}')
            entry['area'] = (
                float(coco_mask.area(self._rasterized(place)))
                if self.as_polygons_K[place]
                else float(self.area_K[place])
            )

    def set_boxes(self) -> None:
        """Replaces each ``bbox`` that is empty or does not fit the mask by the bounding box of the mask."""
        place_J = np.flatnonzero(self.good_K)
        boxes = [self.entries[place].get('bbox') for place in place_J]
        box_J4 = np.array([box if _is_box(box) else [0, 0, 0, 0] for box in boxes], np.float64).reshape(-1, 4)
        side_J4 = np.stack([self.width_K[place_J], self.height_K[place_J]] * 2, axis=1)
        without_side_J = (box_J4[:, 2:] < 1).any(1)
        box_J4[:, 2:] += box_J4[:, :2]
        box_J4 = np.clip(box_J4, 0, side_J4)
        without_side_J |= (box_J4[:, 2:] <= box_J4[:, :2]).any(1)
        of_mask_J4 = np.clip(self.box_K4[place_J], 0, side_J4)
        beside_J = ~without_side_J & (np.abs(box_J4 - of_mask_J4) > _BOX_TOLERANCE).any(1)
        for check, chosen_J in (('box', without_side_J), ('other-box', beside_J)):
            for index in np.flatnonzero(chosen_J):
                place = place_J[index]
                # The extent of a polygon may be more than that of its pixels.
                of_mask_4 = self._box_of_pixels(place) if self.as_polygons_K[place] else of_mask_J4[index]
                if check == 'other-box' and np.abs(box_J4[index] - of_mask_4).max() <= _BOX_TOLERANCE:
                    continue
                self.findings.add(check, f'{self.names[place]}: {short(boxes[index])}')
                left, top, right, bottom = of_mask_4.tolist()
                self.entries[place]['bbox'] = [left, top, right - left, bottom - top]

    def _refuse(self, check: str, places: Iterable[int], value: Callable[[int], str] | None = None) -> None:
        """Leaves annotations out and counts them; ``value`` returns the faulty part of an annotation for the report."""
        for place in places:
            name = self.names[place]
            self.findings.add(check, name if value is None else f'{name}: {value(int(place))}')
            self.good_K[place] = False

    def _largest(self, place: int) -> float:
        return max(abs(value) for ring in self.entries[place]['segmentation'] for value in ring)

    def _largest_as_text(self, place: int) -> str:
        return f'a whole number of {len(str(self._largest(place)))} digits'

    def _covered_as_text(self, covered: dict[int, int], place: int) -> str:
        counts = short(self.entries[place]['segmentation']['counts'])
        return f'{counts} covers {covered[place]} of {self.height_K[place] * self.width_K[place]} pixels'

    def _first_not_finite(self, place: int) -> str:
        rings = self.entries[place]['segmentation']
        return next(
            f'{value} as coordinate {index} of polygon {number}'
            for number, ring in enumerate(rings, 1)
            for index, value in enumerate(ring, 1)
            if not math.isfinite(value)
        )

    def _box_of_pixels(self, place: int) -> np.ndarray:
        left, top, width, height = coco_mask.toBbox(self._rasterized(place))
        return np.array([left, top, left + width, top + height])

    def _rasterized(self, place: int) -> dict:
        rings = self.entries[place]['segmentation']
        return coco_mask.merge(coco_mask.frPyObjects(rings, int(self.height_K[place]), int(self.width_K[place])))


def _run_lengths(mask: dict, size: list[int]) -> dict:
    """Run lengths with whole floating-point numbers, such as 7.0, converted to integers."""
    if not {'size', 'counts'} <= set(mask):
        raise Unreadable('segmentation-form', short(mask))
    if mask['size'] == size and type(mask['counts']) is str:
        return mask
    if not isinstance(mask['size'], list) or [_whole(side) for side in mask['size']] != size:
        raise Unreadable('mask-size', f'{short(mask["size"])}, expected {size}, height and width of the image')
    counts = mask['counts']
    if type(counts) is list:
        counts = [_whole(count) for count in counts]
        if not counts or None in counts:
            raise Unreadable('counts', f'{short(mask["counts"])}, expected whole numbers')
    elif type(counts) is not str:
        raise Unreadable('counts', f'{short(counts)}, expected a list of whole numbers, or a text')
    return {'size': size, 'counts': counts}


def _whole(value: object) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) < _LARGE else None


def _is_box(box: object) -> bool:
    return (
        type(box) is list and len(box) == 4 and all(type(side) in (int, float) and abs(side) < _LARGE for side in box)
    )
