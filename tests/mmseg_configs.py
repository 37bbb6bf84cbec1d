"""Skips what builds on configs of mmseg where those are not installed."""

import pytest
from zoo import ZOO

REASON = 'the installed mmseg comes without configs, as the onedl fork does: mmseg:: does not resolve'
needs_mmsegs_configs = pytest.mark.skipif(not ZOO.is_dir(), reason=REASON)
