"""Reads the images and categories of an annotation file, and the ids that annotations refer to."""

from collections.abc import Callable, Hashable
from typing import Any

from .findings import Findings
from .polygons import short

LONGEST_SIDE = 65_000
"""Longest side of an image, in pixels: run lengths and pycocotools count pixels in 32 bits."""


def key_of(value: Any) -> Hashable:
    """Converts an id to a number if it is one: 7, 7.0 and "7" are the same; ``None`` for a missing id."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        digits = text.removeprefix('-')
        return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else value
    return value if value is None or isinstance(value, float | str) else repr(value)  # True is not accepted as 1


def _numbered(
    entries: list[dict], check: str, duplicate: str, names: Callable, findings: Findings
) -> dict[Hashable, int]:
    """Gives each entry an integer id, in place; returns the new id for each id in the file."""
    numbers: dict[Hashable, int] = {}
    others: list[tuple[Hashable, dict]] = []
    first: dict[Hashable, dict] = {}
    for entry in entries:
        key = key_of(entry.get('id'))
        if key in first:
            findings.add(duplicate, f'id {entry.get("id")!r} of {names(first[key])} and {names(entry)}')
            entry['id'] = key
            continue
        first[key] = entry
        number = entry.get('id')
        if type(number) is int:
            numbers[key] = number
        elif type(key) is int:
            findings.add(check, f'{entry.get("id")!r} of {names(entry)}')
            numbers[key] = entry['id'] = key
        else:
            others.append((key, entry))
    unused = max([0, *numbers.values()]) + 1
    for number, (key, entry) in enumerate(others, unused):
        findings.add(check, f'{entry.get("id")!r} of {names(entry)}')
        numbers[key] = entry['id'] = number
    numbers.pop(None, None)  # no annotation can refer to a missing id
    return numbers


def read_images(entries: list, findings: Findings) -> tuple[list[dict], dict[Hashable, int]]:
    """Reads the images with integer ids, width and height, and the new id for each id in the file (see :func:`key_of`)."""
    images = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get('file_name'), str) or not entry['file_name']:
            findings.add('image-entry', short(entry))
            continue
        entry = dict(entry)
        for side in ('width', 'height'):
            value = entry.get(side)
            if type(value) is not int:
                key = key_of(value)
                if type(key) is int:
                    findings.add('image-size-as-text', f'{side} {value!r} of {entry["file_name"]}')
                entry[side] = key
            if type(entry[side]) is not int or not 1 <= entry[side] <= LONGEST_SIDE:
                findings.add('image-size', f'{side} {short(value)} of {entry["file_name"]}')
                entry[side] = 1
        images.append(entry)
    return images, _numbered(images, 'image-id', 'duplicate-image-id', lambda entry: entry['file_name'], findings)


def read_categories(entries: list, findings: Findings) -> tuple[list[dict], dict[Hashable, int]]:
    """Reads the categories with integer ids, and the new id for each id in the file (see :func:`key_of`)."""
    categories: list[dict] = []
    ids_of_name: dict[str, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get('name'), str):
            findings.add('category-name', short(entry))
            continue
        if entry['name'] in ids_of_name:
            ids = f'ids {ids_of_name[entry["name"]]!r} and {entry.get("id")!r}'
            findings.add('duplicate-category', f'{entry["name"]!r} with {ids}')
            continue
        ids_of_name[entry['name']] = entry.get('id')
        categories.append(dict(entry))
    return categories, _numbered(
        categories, 'category-id', 'duplicate-category', lambda entry: repr(entry['name']), findings
    )
