"""Random faults in files, 100,000 times.

As under "Broken data", with other random numbers: 90,000 files of images, masks and MATLAB, and 10,000 annotation files.
"""

from .broken_data import json_row, mutation_rows
from .rows import Row

FIRST = 1_000_000
"""The number of the first file, which is the seed of its fault; `make faults` has those from 0 on."""


def rows() -> list[Row]:
    return [*mutation_rows(FIRST, 90_000), json_row(FIRST, 10_000)]
