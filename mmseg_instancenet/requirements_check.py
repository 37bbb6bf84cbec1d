"""Check of the required packages: an error names the package that is missing, too old or broken, and the command that
installs it.

Reads the installed versions without importing packages (only OpenCV is imported): a broken or missing package gives this
error, not a traceback from inside another one.
"""

import importlib
import re
from importlib import metadata

# Distribution names under which a package comes (the onedl forks keep the import names), the oldest version that has
# what we use, and the command. mmcv serves with and without compiled operators (mmcv_operators.py).
_NEEDED = (
    ('torch', ('torch',), (2, 4), 'pip install "torch>=2.4"'),  # the oldest that the test suite is run with
    ('mmengine', ('mmengine', 'onedl-mmengine'), (0, 10), 'pip install "mmengine>=0.10.0"'),
    ('mmcv', ('mmcv', 'mmcv-lite', 'onedl-mmcv'), (2, 0), 'pip install "mmcv-lite>=2.0.0,<2.2.0"'),
    ('mmdet', ('mmdet', 'onedl-mmdetection'), (3, 1), 'pip install "mmdet>=3.1.0"'),
    ('mmseg', ('mmsegmentation', 'onedl-mmsegmentation'), (1, 1), 'pip install "mmsegmentation>=1.1.0"'),
    ('scikit-image', ('scikit-image',), (0, 24), 'pip install "scikit-image>=0.24"'),
    ('ftfy', ('ftfy',), (0, 0), 'pip install ftfy'),  # mmseg imports these two without declaring them
    ('regex', ('regex',), (0, 0), 'pip install regex'),
)


def check_requirements() -> None:
    """Raises ImportError for the first package that is missing or too old, or if OpenCV cannot be imported."""
    for package, distributions, oldest, command in _NEEDED:
        version = next(filter(None, map(_version, distributions)), None)
        needed = '.'.join(map(str, oldest))
        if version is None:
            raise ImportError(f'mmseg_instancenet needs {package} {needed} or newer, which is not installed: {command}')
        if tuple(int(part) for part in re.findall(r'\d+', version)[: len(oldest)]) < oldest:
            raise ImportError(f'mmseg_instancenet needs {package} {needed} or newer, found {version}: {command}')
    try:
        importlib.import_module('cv2')
    except ImportError as error:  # opencv-python needs libraries of a desktop, which servers and containers lack
        raise ImportError(
            f'mmseg_instancenet needs OpenCV, which does not load ({error}). On a machine without a desktop, install the '
            "variant without windows: pip uninstall -y opencv-python && pip install 'opencv-python-headless<5'"
        ) from error


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
