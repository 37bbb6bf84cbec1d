"""Annotations of drawing programs, LabelMe and the VGG Image Annotator (VIA), as COCO's lists."""

import base64
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ..structures import VOID, check_pixel_count
from .label_images.mask_files import image_sizes

_CIRCLE_POINTS = 64


@dataclass
class DrawnImage:
    """The objects of an image.

    Attributes:
        path: of the image.
        size: (height, width).
        objects: classes and segmentations: rings ``[x1, y1, x2, y2, ..]`` or COCO's run lengths.
    """

    path: Path
    size: tuple[int, int]
    objects: list[tuple[str, list | dict]] = field(default_factory=list)


class ShapeFaults:
    """Counts what cannot be converted, with the first example of each kind; ``Findings`` of the files of drawing programs.

    Example:
        >>> faults = ShapeFaults()
        >>> faults.add('shape without an area: line', 'a.json')
        >>> print(faults.report())
        1 x shape without an area: line; the first: a.json
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, kind: str, first: str) -> None:
        self._counts[kind] += 1
        self._first.setdefault(kind, first)

    def report(self) -> str:
        """A line for each kind; empty where there is none."""
        return '\n'.join(f'{count} x {kind}; the first: {self._first[kind]}' for kind, count in self._counts.items())


def ellipse_ring(x: float, y: float, radius_x: float, radius_y: float, angle: float = 0.0) -> list[float]:
    """An ellipse as a polygon of 64 points.

    Args:
        x, y: of the centre, in pixels.
        radius_x, radius_y: in pixels.
        angle: radians by which it is turned.

    Example:
        >>> [round(value) for value in ellipse_ring(10, 20, 4, 2)[:2]]
        [14, 20]
    """
    turn = np.arange(_CIRCLE_POINTS) * 2 * np.pi / _CIRCLE_POINTS
    along, across = radius_x * np.cos(turn), radius_y * np.sin(turn)
    points = np.stack(
        [x + along * np.cos(angle) - across * np.sin(angle), y + along * np.sin(angle) + across * np.cos(angle)], axis=1
    )
    return points.reshape(-1).tolist()


def _box_ring(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


# LabelMe


def read_labelme(folder: Path, faults: ShapeFaults) -> list[DrawnImage]:
    """The annotations of LabelMe: one json an image.

    Read are polygons, rectangles, circles and masks. Shapes with one label and one ``group_id`` are the pieces of one object.

    Args:
        folder: with the json files, also in subfolders.
        faults: gets files and shapes that cannot be read.

    Raises:
        FileNotFoundError: if there is no json of LabelMe.
    """
    images = []
    for path in sorted(folder.rglob('*.json')):
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except (ValueError, RecursionError) as error:
            faults.add('file that is no json', f'{path}: {error}')
            continue
        if not isinstance(content, dict) or not {'shapes', 'imagePath'} <= set(content):
            continue  # of another program
        image_path = path.parent / str(content['imagePath']).replace('\\', '/')
        if not image_path.is_file():
            faults.add('image that does not exist ("imagePath")', f'{image_path} of {path}')
            continue
        sizes = image_sizes(image_path)
        if not sizes:
            faults.add('image that cannot be read', str(image_path))
            continue
        drawn = content.get('imageHeight'), content.get('imageWidth')  # null in some versions
        if None not in drawn and drawn not in sizes:
            faults.add('image of another size than in its json', f'{image_path} is {sizes[0]}, in {path} {drawn}')
            continue
        size = sizes[sizes.index(drawn)] if drawn in sizes else sizes[0]
        try:
            objects = _labelme_objects(content['shapes'], size, str(path), faults)
        except Exception as error:  # values of any other type than LabelMe writes
            faults.add('shapes in another form than LabelMe writes', f'{path}: {error!r}')
            continue
        images.append(DrawnImage(image_path, size, objects))
    if not images and not faults.report():
        raise FileNotFoundError(f'no json of LabelMe in {folder}: expected files with "shapes" and "imagePath"')
    return images


def _labelme_objects(
    shapes: Iterable[dict], size: tuple[int, int], name: str, faults: ShapeFaults
) -> list[tuple[str, list | dict]]:
    objects: list[tuple[str, list | dict]] = []
    place_of: dict[tuple, int] = {}
    for shape in shapes:
        segmentation = _labelme_segmentation(shape, size, name, faults)
        if segmentation is None:
            continue
        label, group = str(shape.get('label')), shape.get('group_id')
        key = (label, group)
        if group is None or key not in place_of:
            if group is not None:
                place_of[key] = len(objects)
            objects.append((label, segmentation))
            continue
        pieces = [objects[place_of[key]][1], segmentation]
        if all(isinstance(piece, list) for piece in pieces):
            objects[place_of[key]] = label, pieces[0] + pieces[1]  # type: ignore[operator]  # lists of rings
        else:
            masks = [_run_lengths(piece, size) for piece in pieces]
            objects[place_of[key]] = label, _as_text(coco_mask.merge(masks))
    return objects


def _labelme_segmentation(
    shape: dict, size: tuple[int, int], name: str, faults: ShapeFaults
) -> list[list[float]] | dict | None:
    kind, points = shape.get('shape_type') or 'polygon', shape.get('points') or []
    needed = {'polygon': 3, 'rectangle': 2, 'circle': 2, 'mask': 2}.get(kind)
    if needed is None:
        faults.add(f'shape without an area: {kind}', name)
        return None
    if len(points) < needed:
        faults.add(f'{kind} of fewer than {needed} points', name)
        return None
    if kind == 'polygon':
        return [[value for point in points for value in point[:2]]]
    (first_x, first_y), (second_x, second_y) = points[0], points[1]
    if kind == 'circle':  # its centre and a point on it
        radius = float(np.hypot(second_x - first_x, second_y - first_y))
        return [ellipse_ring(first_x, first_y, radius, radius)]
    left, right, top, bottom = *sorted((first_x, second_x)), *sorted((first_y, second_y))
    if kind == 'rectangle':
        return [_box_ring(left, top, right, bottom)]
    content = base64.b64decode(shape['mask'])
    check_pixel_count(content, f'mask in {name}')
    with Image.open(io.BytesIO(content)) as image:
        mask_hw = np.asarray(image) > 0
    if min(top, left) < 0:
        raise ValueError(f'expected a mask inside of the image, got its upper left corner at x {left}, y {top}')
    canvas = np.zeros(size, np.uint8)
    # The box of a mask is that of its pixels, the last ones included.
    height, width = (
        min(length, limit - start)
        for length, limit, start in zip(mask_hw.shape, size, (int(top), int(left)), strict=True)
    )
    canvas[int(top) : int(top) + height, int(left) : int(left) + width] = mask_hw[:height, :width]
    return _as_text(coco_mask.encode(np.asfortranarray(canvas)))


def _run_lengths(segmentation: list | dict, size: tuple[int, int]) -> dict:
    if isinstance(segmentation, dict):
        return segmentation
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))


def _as_text(rle: dict) -> dict:
    counts = rle['counts']
    return {'size': list(rle['size']), 'counts': counts.decode() if isinstance(counts, bytes) else counts}


# VIA


def read_via(path: Path, image_folder: Path, class_attribute: str | None, faults: ShapeFaults) -> list[DrawnImage]:
    """The annotations of the VGG Image Annotator, versions 1 and 2: a project, or the regions exported as json.

    Read are polygons, rectangles, circles and ellipses.

    Args:
        path: of the json.
        image_folder: of the images, whose sizes are read.
        class_attribute: the attribute of a region that names its class; ``None``: the only one that the regions have, or where
            they have none the class 'object'.
        faults: gets images and regions that cannot be read.

    Raises:
        ValueError: if the file is none of VIA's, or has several attributes and ``class_attribute`` is ``None``.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: expected a json of VIA, got {path.stat().st_size} bytes with {error!r}') from error
    entries = content.get('_via_img_metadata', content) if isinstance(content, dict) else None
    values = list(entries.values()) if isinstance(entries, dict) else []
    if not values or not all(isinstance(entry, dict) and {'filename', 'regions'} <= set(entry) for entry in values):
        raise ValueError(
            f'{path}: expected a project of VIA 2 or its annotations exported as json, whose entries have "filename" and '
            '"regions"; VIA also exports COCO itself (Annotation, Export Annotations)'
        )
    regions_of = [
        list(entry['regions'].values()) if isinstance(entry['regions'], dict) else entry['regions'] for entry in values
    ]
    attribute = class_attribute or _only_attribute(path, [region for regions in regions_of for region in regions])
    images = []
    for entry, regions in sorted(zip(values, regions_of, strict=True), key=lambda pair: pair[0]['filename']):
        image_path = image_folder / entry['filename']
        sizes = image_sizes(image_path) if image_path.is_file() else []
        if not sizes:
            faults.add('image that does not exist or is none', str(image_path))
            continue
        image = DrawnImage(image_path, sizes[0])
        for region in regions:
            try:
                ring = _via_ring(region.get('shape_attributes') or {}, entry['filename'], faults)
                name = _via_class(region.get('region_attributes') or {}, attribute)
            except Exception as error:  # values of any other type than VIA writes
                faults.add('region in another form than VIA writes', f'{entry["filename"]}: {error!r}')
                continue
            if not name:
                faults.add(f'region without the attribute {attribute!r}', entry['filename'])
            elif ring:
                image.objects.append((name, [ring]))
        images.append(image)
    return images


def _only_attribute(path: Path, regions: Sequence[dict]) -> str | None:
    found = sorted({name for region in regions for name in region.get('region_attributes') or {}})
    if len(found) > 1:
        raise ValueError(
            f'{path}: expected one attribute of the regions, got {found}: choose the class by --class-attribute'
        )
    return found[0] if found else None


def _via_class(attributes: dict, attribute: str | None) -> str:
    """Of a text or list; of check boxes the one that is set."""
    if attribute is None:
        return 'object'
    value: Any = attributes.get(attribute, '')
    if isinstance(value, dict):
        chosen = [name for name, is_set in value.items() if is_set]
        value = chosen[0] if len(chosen) == 1 else ''
    return str(value).strip()


def _via_ring(shape: dict, name: str, faults: ShapeFaults) -> list[float] | None:
    kind = shape.get('name')
    if kind in ('polygon', 'polyline') and len(shape.get('all_points_x', [])) >= 3:
        return [value for point in zip(shape['all_points_x'], shape['all_points_y'], strict=True) for value in point]
    if kind == 'rect':
        return _box_ring(shape['x'], shape['y'], shape['x'] + shape['width'], shape['y'] + shape['height'])
    if kind == 'circle':
        return ellipse_ring(shape['cx'], shape['cy'], shape['r'], shape['r'])
    if kind == 'ellipse':
        return ellipse_ring(shape['cx'], shape['cy'], shape['rx'], shape['ry'], shape.get('theta') or 0.0)
    faults.add(f'shape without an area: {kind}', name)
    return None


# COCO


def coco_content(images: Iterable[DrawnImage]) -> dict[str, list[dict]]:
    """Images and their objects as COCO's lists, without ``area`` and ``bbox``; the classes are in the order of their names.

    File names are whole paths. The class ``void`` becomes annotations that are ignored.
    """
    images = list(images)
    classes = sorted({name for image in images for name, _ in image.objects}, key=lambda name: (name == VOID, name))
    content: dict[str, list[dict]] = {
        'images': [],
        'annotations': [],
        'categories': [{'id': number, 'name': name} for number, name in enumerate(classes, 1)],
    }
    for number, image in enumerate(images, 1):
        height, width = image.size
        content['images'].append({'id': number, 'file_name': str(image.path), 'height': height, 'width': width})
        for name, segmentation in image.objects:
            content['annotations'].append(
                {
                    'id': len(content['annotations']) + 1,
                    'image_id': number,
                    'category_id': classes.index(name) + 1,
                    'iscrowd': int(name == VOID),
                    'segmentation': segmentation,
                }
            )
    return content
