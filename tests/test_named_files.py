"""Files of the repository that docstrings, comments and configs name are there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r'(?<![\w./-])((?:configs|tools|docs|benchmarks|requirements)/[\w./-]*\w)')


def test_named_files_exist():
    files = [
        path
        for folder in ('mmseg_instancenet', 'configs', 'tools', 'benchmarks')
        for path in (ROOT / folder).rglob('*.py')
    ]
    named = {(name, path) for path in files for name in NAMED.findall(path.read_text())}
    assert len(named) > 20
    missing = [f'{path.relative_to(ROOT)} names {name}' for name, path in named if not (ROOT / name).exists()]
    assert not missing
