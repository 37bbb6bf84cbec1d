"""Imports between the folders of the package: each imports only folders below it, from structures/ up to apis/ and
analysis/."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'mmseg_instancenet'
MODELS = ('mean_shift', 'losses', 'groupers', 'scorers', 'decode_heads', 'necks', 'data_preprocessor', 'postprocess')
ALLOWED = {
    'structures': (),
    'models.mean_shift': ('structures',),
    'models.nested': (),
    'models.losses': ('structures', 'models.mean_shift', 'models.nested'),
    'models.groupers': ('structures', 'models.mean_shift'),
    'models.scorers': ('structures',),
    'models.decode_heads': ('structures',),
    'models.necks': (),
    'models.data_preprocessor': ('structures',),
    'models.postprocess': ('structures', 'models.groupers', 'models.scorers'),
    'models.segmentors': ('structures', *(f'models.{part}' for part in MODELS)),
    'datasets': ('structures',),
    'evaluation': ('structures', 'datasets'),
    'visualization': ('structures', 'datasets'),
    'outputs': ('structures', 'datasets', 'visualization'),
    'report': ('structures', 'datasets', 'evaluation', 'visualization', 'outputs'),
    'engine': ('structures', 'datasets', 'evaluation', 'visualization', 'outputs'),
    'shipped_models': (),
    'apis': ('structures', 'models', 'datasets', 'evaluation', 'visualization', 'outputs', 'engine'),
    'export': ('structures', 'models', 'datasets', 'evaluation', 'apis'),
    'analysis': ('structures', 'models', 'datasets', 'evaluation', 'visualization', 'outputs', 'engine', 'apis'),
}
FILES = [
    path for path in sorted(PACKAGE.rglob('*.py')) if path.parent != PACKAGE and path != PACKAGE / 'models/__init__.py'
]


def imported_modules(path: Path) -> list[str]:
    """The modules of the package that a file imports, as dotted names below the package."""
    here = path.relative_to(PACKAGE.parent).with_suffix('').parts[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level + 1] if node.level else ()
            module = '.'.join((*start, *filter(None, [node.module])))
            # ``from ..models import losses`` imports a module by the last name.
            found += [f'{module}.{name.name}' for name in node.names]
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names]
    prefix = PACKAGE.name + '.'
    return [name.removeprefix(prefix) for name in found if name.startswith(prefix)]


def within(module: str, folder: str) -> bool:
    return f'{module}.'.startswith(f'{folder}.')


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_folder_imports_what_lies_below_it(path):
    module = '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)
    (folder,) = [folder for folder in ALLOWED if within(module, folder)]
    wrong = [
        name for name in imported_modules(path) if not any(within(name, other) for other in (folder, *ALLOWED[folder]))
    ]
    assert not wrong, f'{folder} may import {ALLOWED[folder] or "nothing of ours"}'
