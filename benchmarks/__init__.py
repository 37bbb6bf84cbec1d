"""Speed and memory of the groupers and losses against the alternatives: ``python -m benchmarks --help``."""

import mmseg_instancenet  # noqa: F401  (before the modules here import mmdet: mmcv.ops has to be importable)
