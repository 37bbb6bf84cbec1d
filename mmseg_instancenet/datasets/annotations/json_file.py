"""Reads json files."""

import json
import sys
from pathlib import Path
from typing import Any

from .findings import Findings

_LFS_POINTER = b'version https://git-lfs'


def load_json(path: str | Path, findings: Findings) -> Any:
    """Loads a json file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        findings: counts a byte order mark; its name stands in messages.

    Raises:
        ValueError: if the file is no json.
    """
    data = Path(path).read_bytes()
    if data.startswith(_LFS_POINTER):
        raise ValueError(
            f'{findings.name}: expected a json, got a pointer of Git LFS: get the file itself with "git lfs pull"'
        )
    if data.startswith(b'\xef\xbb\xbf'):
        findings.add('byte-order-mark', 'the first three bytes')
        data = data[3:]
    try:
        return json.loads(data.decode('utf-8'))
    except UnicodeDecodeError as error:
        raise ValueError(f'{findings.name}: expected a json in UTF-8, got {error}: save it as UTF-8') from None
    except ValueError as error:  # JSONDecodeError, and a number of thousands of digits
        size = f'a file of {len(data)} bytes'
        raise ValueError(
            f'{findings.name}: expected a json, got {size} with {error}: is it truncated, or another format?'
        ) from None
    except RecursionError:
        raise ValueError(nested_too_deeply(findings.name)) from None


def nested_too_deeply(name: str) -> str:
    """The message for a json with lists in lists in lists, which Python reads down to its recursion limit alone."""
    return (
        f'{name}: expected a COCO json, got lists that are nested too deeply, beyond the recursion limit of Python '
        f'({sys.getrecursionlimit()} calls): COCO has four levels'
    )
