"""Small faults in Python code, one at a time: a suite of tests that computes what the code promises finds them."""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARED: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
_NOT_SWAPPED = {'isinstance', 'issubclass', 'cast', 'min', 'max', 'minimum', 'maximum', 'multiply'}
"""Functions of a value and a type, and those in which the order means nothing."""


@dataclass(frozen=True)
class Mutant:
    """A fault in a file.

    file: path below the package.
    where: name of the class and the function, '' for the module.
    line: its number.
    text: the line, without indentation.
    before, after: what the fault changes, and into what.
    place: number, from 1, among the equal changes in equal lines of the function.
    begin, end: bytes of the file that ``after`` replaces.
    """

    file: str
    where: str
    line: int
    text: str
    before: str
    after: str
    place: int
    begin: int
    end: int

    @property
    def key(self) -> tuple[str, str, str, str, str, int]:
        """Tells it from all others, and stays what it is when other lines change."""
        return self.file, self.where, self.text, self.before, self.after, self.place

    def rank(self, seed: int) -> str:
        """For a random sample that stays what it is, as far as the code does: those of the smallest ranks."""
        return hashlib.sha256(repr((seed, *self.key)).encode()).hexdigest()

    def applied(self, source: str) -> str:
        """The source of the file with the fault."""
        content = source.encode()
        return (content[: self.begin] + self.after.encode() + content[self.end :]).decode()


def mutants_of(file: str, source: str) -> list[Mutant]:
    """All mutants of a file.

    Changed are numbers and truth values, comparisons, arithmetic, ``and``, ``or``, ``not``, conditions. Left out are statements
    whose absence no syntax error tells: calls, ``raise``, ``continue``, ``break``, ``x += ..``, ``x = f(x)``. Swapped are the
    first two arguments of a call, unless one is a constant. Messages, docstrings, annotations and the ``strict`` of ``zip`` stay
    as they are.

    Example:
        >>> for mutant in mutants_of('a.py', 'def f(x):\\n    return x < 2\\n'):
        ...     print(mutant.applied('def f(x):\\n    return x < 2\\n').splitlines()[1].strip())
        return (x <= 2)
        return x < 3
    """
    content = source.encode()
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines = source.splitlines()
    count: Counter[tuple] = Counter()
    found = []
    for where, node, after in sorted(_changes(ast.parse(source), ''), key=lambda change: _place(change[1])):
        assert node.end_lineno is not None and node.end_col_offset is not None
        begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        before = ' '.join(content[begin:end].decode().split())
        key = (where, lines[node.lineno - 1].strip(), before, after)
        count[key] += 1
        found.append(Mutant(file, where, node.lineno, key[1], before, after, count[key], begin, end))
    return found


def _changes(node: ast.AST, where: str) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """The function, a node in it, and the text that takes its place."""
    if isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom)):
        return
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        where = f'{where}.{node.name}'.lstrip('.')
    if isinstance(node, ast.expr):
        yield from ((where, node, f'({after})') for after in _other_expressions(node))
    elif isinstance(node, ast.stmt):
        if _can_be_left_out(node):
            yield where, node, 'pass'
        if isinstance(node, ast.AugAssign) and type(node.op) in _COMPUTED:
            other = ast.AugAssign(node.target, _COMPUTED[type(node.op)](), node.value)
            yield where, node, ast.unparse(other)
    if isinstance(node, ast.Raise):
        return  # its message
    if isinstance(node, (ast.If, ast.While, ast.IfExp)) and not isinstance(
        node.test, (ast.Compare, ast.BoolOp, ast.UnaryOp)
    ):
        yield where, node.test, f'(not {ast.unparse(node.test)})'
    for child in _children(node):
        yield from _changes(child, where)


def _place(node: ast.expr | ast.stmt) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name in ('annotation', 'returns', 'decorator_list', 'bases'):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.keyword) and child.arg == 'strict':
                continue
            if isinstance(child, ast.AST):
                yield child


def _other_expressions(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield repr(not value)
        elif isinstance(value, int):
            yield repr(value + 1)
        elif isinstance(value, float):
            yield repr(2 * value or 1.0)
    elif isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            operators = [*node.ops[:index], _COMPARED[type(operator)](), *node.ops[index + 1 :]]
            yield ast.unparse(ast.Compare(node.left, operators, node.comparators))
    elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        yield ast.unparse(ast.BinOp(node.left, _COMPUTED[type(node.op)](), node.right))
    elif isinstance(node, ast.BoolOp):
        yield ast.unparse(ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values))
    elif isinstance(node, ast.UnaryOp):
        yield ast.unparse(node.operand)
    elif isinstance(node, ast.Call) and _can_be_swapped(node):
        yield ast.unparse(ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords))


def _can_be_swapped(node: ast.Call) -> bool:
    """Whether the first two arguments are two computed values: with a number or a text in their place most calls fail at once."""
    first_two = node.args[:2]
    return (
        len(first_two) == 2
        and not any(isinstance(argument, (ast.Starred, ast.Constant)) for argument in first_two)
        and ast.dump(first_two[0]) != ast.dump(first_two[1])
        and ast.unparse(node.func).rpartition('.')[2] not in _NOT_SWAPPED
    )


def _can_be_left_out(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        names = {part.id for part in ast.walk(node.targets[0]) if isinstance(part, ast.Name)}
        used = {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
        return bool(names) and names <= used or isinstance(node.targets[0], ast.Subscript)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    return isinstance(node, (ast.Raise, ast.Continue, ast.Break, ast.AugAssign))
