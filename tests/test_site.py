"""The documentation site: every page and every component is in it. `make docs` builds it, in CI too."""

import importlib
import re
from pathlib import Path

import mmseg_instancenet

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'mmseg_instancenet'


def navigation() -> list[str]:
    """The pages that docs/conf.py lists, without their ending."""
    (text,) = re.findall(r'^NAVIGATION = """\n(.*?)^"""', (ROOT / 'docs/conf.py').read_text(), re.DOTALL | re.MULTILINE)
    return re.findall(r'^([\w/]+)$', text, re.MULTILINE)


def documented() -> set[str]:
    """The names that the pages of docs/api take from the package: those in __all__, or those that the module defines."""
    names = set()
    for page in (ROOT / 'docs/api').glob('*.rst'):
        entries = re.findall(r'automodule:: ([\w.]+)\n   :members:\n(   :imported-members:)?', page.read_text())
        assert entries
        for name, imported in entries:
            module = importlib.import_module(name)
            assert bool(imported) == hasattr(module, '__all__'), name
            names |= set(getattr(module, '__all__', vars(module)))
    return names


def test_every_page_is_in_the_navigation_once():
    pages = [
        path.relative_to(ROOT).with_suffix('').as_posix()
        for path in (ROOT / 'docs').rglob('*.*')
        if path.suffix in ('.md', '.rst')
    ]
    assert sorted(navigation()) == sorted([*pages, 'configs/README', 'CONTRIBUTING', 'SECURITY', 'CHANGELOG'])


def test_every_component_and_function_is_documented():
    classes = {
        match
        for path in PACKAGE.rglob('*.py')
        for match in re.findall(r'register_module\([^)]*\)[^\n]*\nclass (\w+)\(', path.read_text())
    }
    assert len(classes) > 50
    functions = {name for name in mmseg_instancenet.__all__ if callable(getattr(mmseg_instancenet, name))}
    assert len(functions) > 10
    assert (classes | functions) - documented() == set()
