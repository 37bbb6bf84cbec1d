"""Benchmarks of speed and memory of groupers and losses against alternatives: ``python -m benchmarks --help``."""

import mmseg_instancenet  # noqa: F401  (before the modules here import mmdet: mmcv.ops has to be importable)
