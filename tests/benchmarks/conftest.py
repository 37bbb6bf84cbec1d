"""Makes ``benchmarks``, which is not installed with the package, importable in tests."""

import sys
from pathlib import Path

# First: this folder has the same name.
sys.path.insert(0, str(Path(__file__).parents[2]))
