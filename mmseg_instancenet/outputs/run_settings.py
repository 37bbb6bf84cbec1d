"""The settings of a run beside its outputs, so that a later start cannot mix outputs of other settings into them."""

import json
from pathlib import Path

from .atomic_file import atomic_file


def keep_settings(path: str | Path, settings: dict) -> None:
    """Writes the settings of the first start, and compares those of every further start with them.

    Args:
        path: of the json.
        settings: of plain values, lists and dicts.

    Raises:
        ValueError: if a setting is another one than in the file.

    Example:
        >>> import tempfile
        >>> path = f'{tempfile.mkdtemp()}/settings.json'
        >>> keep_settings(path, {'model': 'nuclei'})
        >>> try:
        ...     keep_settings(path, {'model': 'people'})
        ... except ValueError as error:
        ...     print(str(error).partition('settings.json: ')[2].partition('. ')[0])
        expected the settings of the first start, got others: model 'people' instead of 'nuclei'
    """
    path = Path(path)
    settings = json.loads(json.dumps(settings))  # as they are read back: tuples are lists
    if not path.is_file():
        with atomic_file(path) as file:
            json.dump(settings, file, indent=2)
        return
    first = json.loads(path.read_text('utf-8'))
    absent = object()
    differences = [
        f'{key} {settings.get(key)!r} instead of {first.get(key)!r}'
        for key in sorted({*first, *settings})
        if first.get(key, absent) != settings.get(key, absent)
    ]
    if differences:
        raise ValueError(
            f'{path}: expected the settings of the first start, got others: {"; ".join(differences)}. Give another folder by '
            '--out, or --overwrite to begin again in this one'
        )
