"""Converts a folder of images and masks into a COCO json, and keeps the json up to date."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import print_log

from ...structures import VOID
from ..annotations.findings import Findings
from .class_table import ClassTable
from .folders import AnnotatedFile, check_masks_of, find_images
from .mask_files import FaultyMaskError
from .objects import annotate

_FORM = 1
"""Raised by one when the conversion changes: kept files of another form are converted anew."""

_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class LabelFolder:
    """Where images and masks lie, and the meaning of the masks.

    Attributes:
        images, masks: folders.
        mask_suffix: see :func:`find_images`.
        ignore_label: value of unlabelled pixels in label images.
        classes: names of the classes of a data set, in its order.
        classes_from: ``None`` for one class, 'folders' for class folders, or the path of a csv (:class:`ClassTable`).
    """

    images: str
    masks: str
    mask_suffix: str = ''
    ignore_label: int | None = None
    classes: tuple[str, ...] = ('object',)
    classes_from: str | None = None

    def __post_init__(self) -> None:
        if self.ignore_label == 0:
            raise ValueError('expected an ignore_label other than 0, the background, got 0')
        if self.classes_from is None and len(self.classes) != 1:
            raise ValueError(
                f'expected one class in metainfo, got {len(self.classes)}: set classes_from of the data set, to '
                "'folders' for masks/CLASS/NAME.png or to a csv with the columns name, label and class"
            )

    @property
    def key(self) -> str:
        """Eight characters that differ between settings."""
        settings = asdict(self) | {'images': os.path.abspath(self.images), 'masks': os.path.abspath(self.masks)}
        return hashlib.sha1(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


class Conversion(NamedTuple):
    """A folder as annotations.

    Attributes:
        content: COCO's lists ``images``, ``annotations`` and ``categories``, without the images whose masks are refused. An
            annotation has its number in the label image, or the name of its file, as ``label``.
        findings: of the conversion.
    """

    content: dict[str, Any]
    findings: Findings


class _Record(NamedTuple):
    """What is kept of an image: the files that it was made of, the findings, and its entries in COCO's lists."""

    stamp: list
    notes: list[list[str]]
    entry: dict[str, Any] | None
    annotations: list[dict[str, Any]]


def convert_folder(folder: LabelFolder) -> Conversion:
    """Converts a folder of images and masks.

    Time: that of decoding the masks. Peak memory: the annotations, and eight masks at a time.

    Raises:
        FileNotFoundError: if a folder or the csv is missing.
        ValueError: if the csv has faults.
    """
    findings = Findings(folder.masks)
    images, table = _find(folder, findings)
    return _join(folder, images, table, _convert(folder, images, table, {}), findings)


def update_annotations(folder: LabelFolder, path: Path) -> Findings:
    """Writes the COCO json of a folder, or what has changed of it since it was written.

    An image is converted again if the size or the time of change of the image or of a mask has changed. Beside the json lies
    ``NAME.files.json`` with these and with the findings. Both are replaced at once, so that a process that is ended in between
    leaves no half file, and several processes may write at the same time.

    Args:
        folder: of images and masks.
        path: of the json.

    Returns:
        the findings of the whole folder, also of images that were not converted again.

    Raises:
        FileNotFoundError, ValueError: see :func:`convert_folder`.
        OSError: if the json cannot be written.
    """
    findings = Findings(folder.masks)
    images, table = _find(folder, findings)
    state_path = path.with_suffix('.files.json')
    settings = [_FORM, _stamp([table.path]) if table else None]
    state = _load(state_path) if path.is_file() else None
    kept: dict[str, dict] = state['images'] if state and state['settings'] == settings else {}
    stamps = {image.key: _stamp([image.path, *(mask.path for mask in image.masks or [])]) for image in images}
    if list(kept) == list(stamps) and all(kept[key]['stamp'] == stamp for key, stamp in stamps.items()):
        _count(images, {key: one['notes'] for key, one in kept.items()}, findings)
        return findings
    same = {key for key, stamp in stamps.items() if key in kept and kept[key]['stamp'] == stamp}
    records = _read_kept(path, images, {key: kept[key] for key in same}) if same else {}
    print_log(
        f'{folder.masks}: reading the masks of {len(images) - len(records)} images; {path} keeps them for the next start',
        logger='current',
    )
    records |= _convert(folder, images, table, records)
    content, findings = _join(folder, images, table, records, findings)
    _write(path, content)
    _write(
        state_path,
        {
            'settings': settings,
            'images': {key: {'stamp': records[key].stamp, 'notes': records[key].notes} for key in stamps},
        },
    )
    return findings


def _find(folder: LabelFolder, findings: Findings) -> tuple[list[AnnotatedFile], ClassTable | None]:
    images = find_images(
        Path(folder.images),
        Path(folder.masks),
        mask_suffix=folder.mask_suffix,
        class_folders=folder.classes_from == 'folders',
        findings=findings,
    )
    table = None if folder.classes_from in (None, 'folders') else ClassTable(Path(str(folder.classes_from)))
    return images, table


def _stamp(paths: Iterable[Path]) -> list:
    stats = [(path, path.stat()) for path in paths]
    return [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def _load(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _write(path: Path, content: dict) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile('w', dir=path.parent, suffix='.part', delete=False) as file:
            file.write(json.dumps(content))  # json.dump takes four times as long
        os.chmod(file.name, 0o644)  # NamedTemporaryFile lets nobody else read
        os.replace(file.name, path)
    except OSError as error:
        raise OSError(
            f'{path} cannot be written ({error}); set cache_folder of the data set to a folder that can be written'
        ) from error


def _read_kept(path: Path, images: Sequence[AnnotatedFile], kept: dict[str, dict]) -> dict[str, _Record]:
    """The records of images that have not changed."""
    content = _load(path)
    if content is None:
        return {}
    names = {category['id']: category['name'] for category in content['categories']}
    entry_of = {entry['key']: entry for entry in content['images']}
    annotations_of: dict[int, list[dict]] = {entry['id']: [] for entry in content['images']}
    for annotation in content['annotations']:
        annotations_of[annotation['image_id']].append({**annotation, 'category': names[annotation['category_id']]})
    records = {}
    for image in images:
        if image.key in kept:
            notes, entry = kept[image.key]['notes'], entry_of.get(image.key)
            annotations = annotations_of[entry['id']] if entry else []
            records[image.key] = _Record(kept[image.key]['stamp'], notes, entry, annotations)
    return records


def _convert(
    folder: LabelFolder, images: Sequence[AnnotatedFile], table: ClassTable | None, known: dict[str, _Record]
) -> dict[str, _Record]:
    """Records of the images that are not known."""
    new = [image for image in images if image.key not in known]
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip([image.key for image in new], pool.map(_converter(folder, table), new), strict=True))


def _converter(folder: LabelFolder, table: ClassTable | None) -> Callable[[AnnotatedFile], _Record]:
    root = Path(folder.images)

    def convert(image: AnnotatedFile) -> _Record:
        stamp = _stamp([image.path, *(mask.path for mask in image.masks or [])])
        notes: list[list[str]] = []
        fault = check_masks_of(image)
        if fault is not None:
            return _Record(stamp, [list(fault)], None, [])
        try:
            (height, width), annotations = annotate(
                image,
                folder.ignore_label,
                table.class_of if table else None,
                lambda check, first: notes.append([check, first]),
            )
        except FaultyMaskError as error:
            return _Record(stamp, [*notes, [error.check, error.first]], None, [])
        if table:
            without = sorted(table.labels_of(image.key) - {annotation['label'] for annotation in annotations})
            notes += [['row-without-label', f'label {label} of {image.key} in {table.path}'] for label in without]
        name = image.path.relative_to(root).as_posix()
        return _Record(
            stamp, notes, {'file_name': name, 'height': height, 'width': width, 'key': image.key}, annotations
        )

    return convert


def _join(
    folder: LabelFolder,
    images: Sequence[AnnotatedFile],
    table: ClassTable | None,
    records: dict[str, _Record],
    findings: Findings,
) -> Conversion:
    """The records of all images as COCO's lists, numbered from 1 in the order of the images."""
    _count(images, {key: record.notes for key, record in records.items()}, findings)
    categories = _categories(folder, table)
    number_of = {name: number for number, name in enumerate([*categories, VOID], 1)}
    entries: list[dict] = []
    annotations: list[dict] = []
    for image in images:
        record = records[image.key]
        if record.entry is None:
            continue
        entries.append({**record.entry, 'id': len(entries) + 1})
        for annotation in record.annotations:
            category = annotation['category'] or folder.classes[0]
            changes = {
                'id': len(annotations) + 1,
                'image_id': len(entries),
                'category_id': number_of[category],
            }
            annotations.append({key: value for key, value in annotation.items() if key != 'category'} | changes)
    used = {annotation['category_id'] for annotation in annotations}
    listed = [{'id': number, 'name': name} for name, number in number_of.items() if name != VOID or number in used]
    return Conversion({'images': entries, 'annotations': annotations, 'categories': listed}, findings)


def _count(images: Sequence[AnnotatedFile], notes_of: dict[str, list[list[str]]], findings: Findings) -> None:
    for image in images:
        for check, first in notes_of[image.key]:
            findings.add(check, first)


def _categories(folder: LabelFolder, table: ClassTable | None) -> list[str]:
    """The classes of the folder, those of the data set first and in its order: mmdet numbers labels in the order of the list."""
    if folder.classes_from is None:
        return list(folder.classes)
    if table is not None:
        found = table.classes
    else:
        found = sorted(
            entry.name for entry in Path(folder.masks).iterdir() if entry.is_dir() and not entry.name.startswith('.')
        )
    wanted = [name for name in folder.classes if name in found]
    return [*wanted, *(name for name in found if name not in wanted and name != VOID)]
