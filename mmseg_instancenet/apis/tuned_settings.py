"""Settings that ``tools/tune.py`` has found for a checkpoint: a json beside it, merged into the config where it is used."""

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

KEYS = (
    'model.grouper.threshold',
    'model.grouper.concentration',
    'model.grouper.mask_threshold',
    'model.grouper.min_size',
    'model.test_cfg.score_thr',
)
"""Settings of a config that are tuned."""

_TYPES: dict[str, type] = {
    **dict.fromkeys(('grouper', 'aim', 'date', 'checkpoint_sha256'), str),
    **dict.fromkeys(('before', 'after'), float),
    **dict.fromkeys(('images', 'objects'), int),
}
_REMEDY = 'run tools/tune.py again, remove the file, or set use_tuned_settings=False in the config'


@dataclass(frozen=True)
class TunedSettings:
    """Content of the json beside a checkpoint.

    Attributes:
        settings: values by key of the config, of :data:`KEYS`.
        grouper: type of the grouper that they belong to.
        aim, before, after: name of the metric that was improved, its value with the config's settings and with these.
        images, objects: how many they were chosen on.
        date: when, as 2026-11-27.
        checkpoint_sha256: of the checkpoint file.
    """

    settings: dict[str, float]
    grouper: str
    aim: str
    before: float
    after: float
    images: int
    objects: int
    date: str
    checkpoint_sha256: str

    def __post_init__(self) -> None:
        for name, kind in _TYPES.items():
            value = getattr(self, name)
            if not _is_a(value, kind):
                raise ValueError(f'expected {name} of type {kind.__name__}, got {value!r}')
        if not isinstance(self.settings, dict) or not self.settings:
            raise ValueError(f'expected settings by key of the config, got {self.settings!r}')
        for key, value in self.settings.items():
            if key not in KEYS:
                raise ValueError(f'expected settings of {", ".join(KEYS)}, got {key!r}')
            kind = int if key == 'model.grouper.min_size' else float
            if not _is_a(value, kind) or value < 0:
                raise ValueError(f'expected {key} of type {kind.__name__}, at least 0, got {value!r}')

    def write(self, path: Path) -> None:
        """Writes the json; missing folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + '\n', encoding='utf-8')


def _is_a(value: object, kind: type) -> bool:
    """Whether a value read from json is of a type; an integer is a float, a truth value no number, and NaN no value."""
    if isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, kind)


def read_tuned_settings(path: Path) -> TunedSettings:
    """Reads and checks the json that :meth:`TunedSettings.write` wrote.

    Raises:
        ValueError: with the name of the file, if it is no such json.
    """
    names = {field.name for field in fields(TunedSettings)}
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        found = set(content) if isinstance(content, dict) else set()
        if found != names:
            missing, unknown = sorted(names - found), sorted(found - names)
            raise ValueError(f'expected a json of tools/tune.py, got one without {missing}, with unknown {unknown}')
        return TunedSettings(**content)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ValueError(f'{path}: {error}: {_REMEDY}') from error


def tuned_settings_path(checkpoint: str | Path) -> Path:
    """Path of the json beside a checkpoint.

    Example:
        >>> tuned_settings_path('work_dirs/leaves/epoch_5.pth').as_posix()
        'work_dirs/leaves/epoch_5_tuned.json'
    """
    path = Path(checkpoint)
    return path.with_name(f'{path.stem}_tuned.json')


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits; reads 1 MiB at a time."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def grouper_type(config: Config) -> str:
    """Name of the grouper's class in a config, without its scope; empty for a model without a grouper.

    Example:
        >>> grouper_type(Config(dict(model=dict(grouper=dict(type='mmseg.CenterGrouping')))))
        'CenterGrouping'
    """
    kind = (config.model.get('grouper') or {}).get('type', '')
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def merge_tuned_settings(
    config: Config, checkpoint: str | Path | None, cfg_options: Mapping[str, Any] | None = None
) -> None:
    """Merges the settings in the json beside a checkpoint into a config, and prints them with the name of the file.

    The config stays as it is where there is no such json, where the config has ``use_tuned_settings = False``, and, with a
    warning, where the json belongs to something else: to another type of grouper, since the config then asks for another
    grouping, whose settings are other ones; or to another checkpoint, as after a second training into the same folder. Both
    are normal in the comparison of methods. A damaged json is an error, since the results would silently be other ones.

    Args:
        config: changed in place, with ``cfg_options`` merged into it already.
        checkpoint: file or address; there is no json for an address, nor for ``None``.
        cfg_options: settings that the user has given, nested keys joined by dots or as dictionaries; they are kept.

    Raises:
        ValueError: with the name of the json, if it is damaged.
    """
    if checkpoint is None or not Path(checkpoint).is_file() or not config.get('use_tuned_settings', True):
        return
    path = tuned_settings_path(checkpoint)
    if not path.is_file():
        return
    tuned = read_tuned_settings(path)
    unused = f'the settings of {path.name} are not used, since they are for'
    if tuned.grouper != grouper_type(config):
        warnings.warn(f'{unused} {tuned.grouper}, and the grouper is {grouper_type(config) or "missing"}', stacklevel=3)
        return
    if tuned.checkpoint_sha256 != file_sha256(checkpoint):
        warnings.warn(f'{unused} another checkpoint than {checkpoint}: run tools/tune.py again', stacklevel=3)
        return
    given = set(_flat_keys(cfg_options or {}))
    kept = [key for key in tuned.settings if key in given]
    merged = {key: value for key, value in tuned.settings.items() if key not in given}
    for key, value in merged.items():
        _set(config, key, value)
    shown = ' '.join(f'{key}={value:g}' for key, value in merged.items()) or 'none is used'
    print(f'settings of {path.name}: {shown}' + (f'; given by cfg_options: {" ".join(kept)}' if kept else ''))


def _flat_keys(options: Mapping[str, Any], prefix: str = '') -> Iterator[str]:
    """Yields the keys of all values of nested dictionaries, joined by dots."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat_keys(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}'


def _set(config: Config, key: str, value: float) -> None:
    """Sets a value by its key; unlike ``merge_from_dict`` also below a key whose value is None, as ``test_cfg`` may be."""
    *parents, name = key.split('.')
    inner = config
    for parent in parents:
        if inner.get(parent) is None:
            inner[parent] = ConfigDict()
        inner = inner[parent]
    inner[name] = value
