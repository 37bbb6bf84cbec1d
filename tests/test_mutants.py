"""The faults that tests/mutants.py puts into code."""

import ast
from textwrap import dedent

from mutants import mutants_of

SOURCE = dedent(
    '''
    """Text of 2 lines."""
    LIMIT = 0.5


    class A:
        def f(self, x: int = 1, *, big: bool = False) -> int:
            """f(1)"""
            if x < 0 or not big:
                raise ValueError(f'expected x >= 0, got {x + 1}')
            for a, b in zip(x, LIMIT, strict=True):
                if a:
                    continue
                x = x - min(b, a)
                x += g(a, b)
            return isinstance(x, int)
    '''
)


def test_every_mutant_of_a_class():
    found = [(m.where, m.before, m.after) for m in mutants_of('a.py', SOURCE)]
    assert found == [
        ('', '0.5', '(1.0)'),
        ('A.f', '1', '(2)'),
        ('A.f', 'False', '(True)'),
        ('A.f', 'x < 0 or not big', '(x < 0 and (not big))'),
        ('A.f', 'x < 0', '(x <= 0)'),
        ('A.f', '0', '(1)'),
        ('A.f', 'not big', '(big)'),
        ('A.f', "raise ValueError(f'expected x >= 0, got {x + 1}')", 'pass'),
        ('A.f', 'zip(x, LIMIT, strict=True)', '(zip(LIMIT, x, strict=True))'),
        ('A.f', 'a', '(not a)'),
        ('A.f', 'continue', 'pass'),
        ('A.f', 'x = x - min(b, a)', 'pass'),
        ('A.f', 'x - min(b, a)', '(x + min(b, a))'),
        ('A.f', 'x += g(a, b)', 'pass'),
        ('A.f', 'x += g(a, b)', 'x -= g(a, b)'),
        ('A.f', 'g(a, b)', '(g(b, a))'),
    ]


def test_a_mutant_replaces_its_text_alone():
    for mutant in mutants_of('a.py', SOURCE):
        changed = mutant.applied(SOURCE)
        ast.parse(changed)
        assert (
            changed == SOURCE.encode()[: mutant.begin].decode() + mutant.after + SOURCE.encode()[mutant.end :].decode()
        )
        assert SOURCE.splitlines()[mutant.line - 1].strip() == mutant.text


def test_columns_count_bytes():
    source = "name = 'ü'; value = 3\n"
    assert [mutant.applied(source) for mutant in mutants_of('a.py', source)] == ["name = 'ü'; value = (4)\n"]


def test_equal_changes_in_a_line_have_numbers_and_ranks_stay():
    first, second = mutants_of('a.py', 'a = [1, 1]\n')
    assert (first.place, second.place) == (1, 2) and first.key != second.key
    moved = mutants_of('a.py', '# a line more\n\na = [1, 1]\n')
    assert [mutant.rank(0) for mutant in moved] == [first.rank(0), second.rank(0)]
    assert first.rank(0) != second.rank(0) != second.rank(1)
