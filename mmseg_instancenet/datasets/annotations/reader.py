"""Reads a COCO json into one normal form, or raises an error that names the faults."""

import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from ...structures import VOID
from .checks import Decision
from .findings import Findings
from .json_file import load_json, nested_too_deeply
from .masks import with_masks
from .polygons import short
from .references import key_of, read_categories, read_images

_AT_ONCE = 10_000
"""Annotations that are checked at once, which bounds the memory: 100 to 200 MB."""


def read_annotations(
    path: str | Path, *, name: str | None = None, classes: Sequence[str] | None = None, strict: bool = True
) -> tuple[dict, Findings]:
    """Reads a COCO json into the normal form for data sets, metrics and tools.

    In the normal form all ids are whole numbers, those of images and categories unique and those of annotations positive and
    unique; ``iscrowd`` is 0 or 1; each annotation is of an image and a category of the file and has a mask of at least a pixel,
    as polygons or run lengths that pycocotools reads without harm, and the ``area`` and the ``bbox`` of its mask where those of
    the file cannot be right. Other entries of the file stay. :data:`CHECKS` lists the faults that are mended or refused.

    Time: about 15 microseconds an annotation besides the json. Peak memory besides the content: 200 MB.

    Args:
        path: of the file.
        name: of the file in messages; ``path`` unless given.
        classes: names of categories; annotations of others, void apart, are left out unread. All unless given.
        strict: raise where an annotation cannot be mended; False leaves it out.

    Returns:
        the content in the normal form, and the findings.

    Raises:
        ValueError: where something cannot be mended, with all kinds of such findings, each with its first example.

    Example::

        content, findings = read_annotations('train.json')
        print(findings.report(Decision.MENDED))
    """
    findings = Findings(str(name or path))
    content = load_json(path, findings)
    try:
        normal = _normal_form(content, findings, classes)
    except RecursionError:
        raise ValueError(nested_too_deeply(findings.name)) from None
    findings.refuse(strict)
    return normal, findings


def warn_of(findings: Findings) -> None:
    """Warns of the findings in a file, once for each decision."""
    for decision in Decision:
        report = findings.report(decision)
        if report:
            warnings.warn(report.replace(', refused:', ', left out:'), stacklevel=3)


def check_file(path: str | Path, *, name: str | None = None) -> tuple[dict | None, Findings]:
    """As :func:`read_annotations`, but reports refused entries among the findings and raises no error.

    Returns:
        the content in the normal form without the annotations that are refused, or ``None`` where the file is no COCO json or
        its images or categories are refused; and the findings.
    """
    findings = Findings(str(name or path))
    try:
        content = load_json(path, findings)
    except ValueError as error:
        findings.add('no-json', str(error).removeprefix(f'{findings.name}: '))
        return None, findings
    return check_content(content, findings), findings


def check_content(content: Any, findings: Findings) -> dict | None:
    """As :func:`check_file`, of what a file holds.

    Args:
        content: of a COCO json; its entries are changed.
        findings: gets what is found.
    """
    try:
        normal = _normal_form(content, findings, None)
    except RecursionError:
        findings.add('no-json', nested_too_deeply(findings.name).removeprefix(f'{findings.name}: '))
        return None
    try:
        findings.refuse(strict=False)
    except ValueError:
        return None
    return normal


def _normal_form(content: Any, findings: Findings, classes: Sequence[str] | None) -> dict:
    lists: dict[str, Any] = (
        {key: content.get(key) for key in ('images', 'categories', 'annotations')} if isinstance(content, dict) else {}
    )
    if lists.get('annotations', []) is None:
        lists['annotations'] = []  # COCO's lists of test images have none
    wrong = [key for key in ('images', 'categories', 'annotations') if not isinstance(lists.get(key), list)]
    if wrong:
        found = f'the lists {sorted(content)[:8]}' if isinstance(content, dict) else f'a {type(content).__name__}'
        findings.add('no-coco', f'{found}, without {" and ".join(wrong)}')
        return {}
    images, image_of = read_images(lists['images'], findings)
    categories, category_of = read_categories(lists['categories'], findings)
    annotations = _annotations(lists['annotations'], images, image_of, categories, category_of, classes, findings)
    _warn_of_nothing(lists['annotations'], annotations, categories, classes, findings)
    return {**content, 'images': images, 'categories': categories, 'annotations': annotations}


def _annotations(
    entries: list,
    images: list[dict],
    image_of: dict[Hashable, int],
    categories: list[dict],
    category_of: dict[Hashable, int],
    classes: Sequence[str] | None,
    findings: Findings,
) -> list[dict]:
    by_id = {image['id']: image for image in images}
    wanted = None
    if classes is not None:
        wanted = {category['id'] for category in categories if category['name'] in (*classes, VOID)}
    annotations, names, sizes = [], [], []
    used: Counter[int | None] = Counter()
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            findings.add('annotation-entry', f'{short(entry)} at place {place}')
            continue
        image, category = image_of.get(key_of(entry.get('image_id'))), category_of.get(key_of(entry.get('category_id')))
        if category is None:
            findings.add(
                'unknown-category', f'annotation {entry.get("id")!r} with category_id {entry.get("category_id")!r}'
            )
            continue
        if wanted is not None and category not in wanted:
            continue
        if image is None:
            findings.add('unknown-image', f'annotation {entry.get("id")!r} with image_id {entry.get("image_id")!r}')
            continue
        name = f'annotation {entry.get("id")!r} of image {by_id[image]["file_name"]}'
        for key in ('image_id', 'category_id'):
            if type(entry[key]) is not int and type(key_of(entry[key])) is int:
                findings.add('reference-as-text', f'{key} {entry[key]!r} in {name}')
        entry['image_id'], entry['category_id'] = image, category
        if not (_set_flag(entry, 'iscrowd', name, findings) and _set_flag(entry, 'ignore', name, findings)):
            continue
        annotations.append(entry)
        names.append(name)
        sizes.append((by_id[image]['height'], by_id[image]['width']))
        used[entry.get('id') if type(entry.get('id')) is int else None] += 1
    wrong = [
        place
        for place, entry in enumerate(annotations)
        if type(entry.get('id')) is not int or entry['id'] < 1 or used[entry['id']] > 1
    ]
    if wrong:
        findings.add('annotation-id', names[wrong[0]], len(wrong))
        for number, entry in enumerate(annotations, 1):
            entry['id'] = number
    kept = []
    for start in range(0, len(annotations), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        kept += with_masks(annotations[part], names[part], sizes[part], findings)
    return kept


def _set_flag(entry: dict, key: str, name: str, findings: Findings) -> bool:
    """Sets a flag to 0 or 1, in place; returns False if it is neither."""
    value = entry.get(key)
    if type(value) is int and value in (0, 1):
        return True
    if value is None or value == '' or value == []:
        if key == 'iscrowd':
            findings.add('no-crowd-flag', name)
            entry[key] = 0
        else:
            entry.pop(key, None)
        return True
    number = {'false': 0, 'true': 1, '0': 0, '1': 1, '0.0': 0, '1.0': 1}.get(str(value).strip().lower())
    if number is None:
        findings.add('crowd-flag', f'"{key}" {short(value)} in {name}')
        return False
    findings.add('crowd-flag-as-text', f'"{key}" {value!r} in {name}')
    entry[key] = number
    return True


def _warn_of_nothing(
    entries: list, annotations: list[dict], categories: list[dict], classes: Sequence[str] | None, findings: Findings
) -> None:
    """Counts findings that leave nothing to learn from: no annotation, only ignored objects, a class without objects."""
    if not entries:
        findings.add('no-annotation', 'the list "annotations" is empty')
        return
    name_of = {category['id']: category['name'] for category in categories}
    objects: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for entry in annotations:
        (others if entry['iscrowd'] or entry.get('ignore') else objects)[name_of[entry['category_id']]] += 1
    if not objects:
        if annotations:
            findings.add(
                'all-ignored', f'{len(annotations)} annotations, all with "iscrowd" or "ignore"', len(annotations)
            )
        return
    for name in name_of.values() if classes is None else classes:
        if name in name_of.values() and name != VOID and name in others and name not in objects:
            findings.add(
                'class-without-object', f'{name!r}: {others[name]} annotations, all with "iscrowd" or "ignore"'
            )
