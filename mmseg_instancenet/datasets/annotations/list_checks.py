"""Checks for suspicious images and classes in the lists of an annotation file."""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain

from ...structures import VOID
from .findings import Findings
from .references import key_of


def check_lists(content: dict, classes: Sequence[str], entries: list, findings: Findings) -> None:
    """Finds images that are listed twice, share their name or have no annotation, and classes that a config leaves out.

    Args:
        content: of a file, in the normal form.
        classes: of the config.
        entries: annotations as the file has them, where the content lacks some of them: an image that has one is annotated.
        findings: counts the findings.
    """
    _check_file_names(content['images'], findings)
    count = Counter(annotation['category_id'] for annotation in content['annotations'])
    others = {
        category['id']: category['name']
        for category in content['categories']
        if category['name'] not in classes and category['name'] != VOID
    }
    for number, name in others.items():
        findings.add('other-class', f'{name!r} with {count[number]} annotations')
    annotated = {
        key_of(entry.get('image_id'))
        for entry in chain(content['annotations'], entries)
        if isinstance(entry, dict) and key_of(entry.get('category_id')) not in others
    }
    for image in content['images'] if annotated else []:  # a file without any annotation is another finding
        if image['id'] not in annotated:
            findings.add('image-without-annotation', image['file_name'])


def _check_file_names(images: list[dict], findings: Findings) -> None:
    first_id: dict[str, int] = {}
    names = defaultdict(list)
    for image in images:
        path = posixpath.normpath(image['file_name'].replace('\\', '/'))
        if path in first_id:
            findings.add('image-listed-twice', f'{image["file_name"]} with ids {first_id[path]} and {image["id"]}')
            continue
        first_id[path] = image['id']
        names[posixpath.basename(path)].append(image['file_name'])
    for paths in names.values():
        if len(paths) > 1:
            findings.add('same-name', f'{paths[0]} and {paths[1]}')
