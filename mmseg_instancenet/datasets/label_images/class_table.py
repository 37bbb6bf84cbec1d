"""The classes of objects, from a csv."""

import csv
from pathlib import Path

from .folders import IMAGE_ENDINGS

_COLUMNS = ('name', 'label', 'class')


class ClassTable:
    """Classes of the labels of each image.

    Args:
        path: of a csv in UTF-8, with commas or semicolons, whose first line has the columns ``name``, ``label`` and ``class``. A
            name is that of the image below its folder, with or without the ending. A label is the number in the label image or,
            for a mask of one object, the name of its file without the ending.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column, a name, a label or a class is missing, or a label of an image has two classes.

    Example::

        table = ClassTable(Path('data/my_set/classes.csv'))   # name,label,class / a,1,leaf / a,2,stem
        table.class_of('a', '2')   # 'stem'
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f'csv of the classes not found: {path}; set classes_from of the data set')
        self.path = path
        self._labels: dict[str, dict[str, str]] = {}
        faults: list[str] = []
        with path.open(encoding='utf-8-sig', newline='') as file:
            head = file.readline()
            file.seek(0)
            rows = csv.DictReader(
                file, delimiter=';' if ';' in head and ',' not in head else ',', skipinitialspace=True
            )
            missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
            if missing:
                raise ValueError(
                    f'{path}: expected the columns name, label and class, got {rows.fieldnames}: name them in the first line'
                )
            for row in rows:
                name, label, class_name = ((row[column] or '').strip() for column in _COLUMNS)
                if not (name and label and class_name):
                    faults.append(f'line {rows.line_num}: a name, a label or a class is missing')
                    continue
                labels = self._labels.setdefault(_key(name), {})
                if labels.setdefault(_number(label), class_name) != class_name:
                    faults.append(f'line {rows.line_num}: label {label} of {name} has another class above')
        if faults:
            raise ValueError(f'{path}: correct {len(faults)} lines; the first: {faults[0]}')

    @property
    def classes(self) -> list[str]:
        """All classes, sorted."""
        return sorted({class_name for labels in self._labels.values() for class_name in labels.values()})

    def class_of(self, key: str, label: str) -> str | None:
        """The class of a label of an image, ``None`` where the csv lacks it."""
        return self._labels.get(key, {}).get(label)

    def labels_of(self, key: str) -> set[str]:
        """The labels of an image in the csv."""
        return set(self._labels.get(key, {}))


def _key(name: str) -> str:
    name = name.replace('\\', '/')
    return name[: name.rindex('.')] if name.lower().endswith(IMAGE_ENDINGS) else name


def _number(label: str) -> str:
    """'3.0', as spreadsheets and pandas write whole numbers beside missing ones, is 3."""
    whole, _, fraction = label.partition('.')
    return whole if whole.lstrip('-').isdigit() and not fraction.strip('0') else label
