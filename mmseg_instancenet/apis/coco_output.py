"""The output of the converters to COCO json."""

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ..datasets.annotations import CHECKS, Decision, Findings, check_content


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """``--out`` and ``--dry-run``."""
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.json', help='COCO json to write')
    parser.add_argument('--dry-run', action='store_true', help='read and check everything, and write nothing')


def write_coco(content: dict[str, Any], out: Path, dry_run: bool) -> None:
    """Checks COCO's lists as a training does, writes them in the normal form, and prints a line a class.

    The json names the images relative to its own folder, so that a data set takes ``data_prefix=dict(img='')`` and the folder of
    the json as ``data_root``.

    Args:
        content: with the paths of the images as ``file_name``.
        out: the json.
        dry_run: write nothing.

    Raises:
        SystemExit: with the findings, if a training would refuse the content.
    """
    for image in content['images']:
        image['file_name'] = Path(os.path.relpath(image['file_name'], out.parent)).as_posix()
    findings = Findings(str(out))
    normal = check_content(content, findings)
    for finding in findings.of(Decision.MENDED, Decision.WARNED):
        if finding.check not in (CHECKS['area'], CHECKS['box']):  # which drawing programs do not write
            print(f'{finding.check.decision.value}: {finding}')
    if normal is None or findings.of(Decision.REFUSED):
        raise SystemExit(f'{findings.report(Decision.REFUSED)}\n{out} is not written')
    name_of = {category['id']: category['name'] for category in normal['categories']}
    counts = Counter(name_of[annotation['category_id']] for annotation in normal['annotations'])
    print(f'{out}: {len(normal["images"])} images, {len(normal["annotations"])} annotations')
    for name in name_of.values():
        print(f'  {name}: {counts[name]}')
    if dry_run:
        print('--dry-run: nothing is written')
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(normal))


__all__ = ['add_output_arguments', 'write_coco']
