"""Skips tests of configs that inherit from configs of mmseg if those are not installed."""

import re
from pathlib import Path

import pytest
from zoo import ZOO

REASON = 'the installed mmseg comes without configs, as early versions of the onedl fork do: mmseg:: does not resolve'
needs_mmsegs_configs = pytest.mark.skipif(not ZOO.is_dir(), reason=REASON)


def builds_on_mmsegs(path: Path) -> bool:
    """Whether a config, or one of those below ``_base_`` that it names, has a base among mmseg's."""
    text = path.read_text()
    return 'mmseg::' in text or any(
        builds_on_mmsegs(path.parent / name) for name in re.findall(r"'(\./_base_/\S+\.py)'", text)
    )
