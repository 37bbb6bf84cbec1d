"""Access to the package's configs by name, from any folder: ``_base_ =
['mmseg_instancenet::_base_/default_runtime.py']``."""

from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import is_installed

PREFIX = 'mmseg_instancenet::'
_MMSEG = 'mmseg::'

_PACKAGE = Path(__file__).parent


def config_folder() -> Path:
    """The folder of the configs: beside the package in a checkout, inside it after an installation from a wheel."""
    inside = _PACKAGE / '.mim' / 'configs'
    return inside if inside.is_dir() else _PACKAGE.parent / 'configs'


def resolve(name: str) -> str:
    """The path of a config of the package from its name.

    Args:
        name: ``mmseg_instancenet::`` and the path below ``configs/``.

    Raises:
        FileNotFoundError: if there is no such config; it names those of the folder.

    Example:
        >>> Path(resolve('mmseg_instancenet::_base_/default_runtime.py')).name
        'default_runtime.py'
    """
    path = config_folder() / name.removeprefix(PREFIX)
    if not path.is_file():
        there = sorted(one.name for one in path.parent.glob('*.py')) or sorted(
            one.name for one in config_folder().iterdir()
        )
        raise FileNotFoundError(
            f'mmseg_instancenet has no config {name.removeprefix(PREFIX)!r}; it has {", ".join(there)}'
        )
    return str(path)


def register() -> None:
    """Registers the prefixes ``mmseg_instancenet::`` and, with the onedl fork of mmseg, ``mmseg::`` for ``_base_`` in
    configs.

    MMEngine has a fixed list of packages for that, by the names of their distributions; the fork's has another name.
    """
    mmengines = Config._get_cfg_path

    def get_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(PREFIX):
            # No scope: types without a prefix are mmseg's, as in the configs themselves.
            return resolve(cfg_path), None
        if cfg_path.startswith(_MMSEG) and not is_installed('mmsegmentation'):
            path = _mmsegs_configs() / cfg_path.removeprefix(_MMSEG)
            if path.is_file():
                return str(path), 'mmseg'
        return mmengines(cfg_path, filename)

    Config._get_cfg_path = staticmethod(get_path)


def _mmsegs_configs() -> Path:
    spec = find_spec('mmseg')
    return Path(spec.origin or '').parent / '.mim' / 'configs' if spec else Path()
