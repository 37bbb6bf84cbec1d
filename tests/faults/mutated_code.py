"""Mutated code.

A number, a comparison, a sign, a condition, a statement or the order of two arguments is changed, in one place of the losses, the
groupers, mean shift or the metrics, and the tests of that folder run: one of them has to fail. A mutant that computes the same as
the code is not counted (`tests/faults/equivalent_mutants.py` has the reasons). The mutants are a random sample, which stays the
same as far as the code does. Each that no test found has got a test since, so that of a sample of others fewer would be found.

::

    PYTHONPATH=tests python -m faults mutated_code
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from mutants import Mutant, mutants_of

from .equivalent_mutants import EQUIVALENT
from .rows import Row

SEED = 18
SAMPLE = 520
PROCESSES = 2

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / 'mmseg_instancenet'
TESTS = {
    'models/losses': ['tests/models/losses'],
    'models/groupers': ['tests/models/groupers'],
    'models/mean_shift': [
        'tests/models/mean_shift',
        'tests/models/groupers/test_mean_shift_grouping.py',
        'tests/models/losses/test_recurrent_loss.py',
    ],
    'evaluation': ['tests/evaluation'],
}
"""Folders of the package, and the tests that run for a mutant in them, besides the examples of its docstrings."""
_PASSED = 0
"""Exit status of pytest."""


@dataclass(frozen=True)
class Outcome:
    """What pytest said of a mutant: its exit status, ``None`` where it took several times as long as without the fault."""

    mutant: Mutant
    status: int | None
    seconds: float


def rows() -> list[Row]:
    outcomes = try_mutants(sample(SAMPLE))
    return [row_of(folder, [o for o in outcomes if o.mutant.file.startswith(folder)]) for folder in TESTS]


def all_mutants() -> list[Mutant]:
    files = [file for folder in TESTS for file in sorted((PACKAGE / folder).rglob('*.py'))]
    return [
        mutant for file in files for mutant in mutants_of(file.relative_to(PACKAGE).as_posix(), file.read_text('utf-8'))
    ]


def sample(count: int) -> list[Mutant]:
    """Mutants of all folders that are not equivalent to the code."""
    mutants = all_mutants()
    unknown = set(EQUIVALENT) - {mutant.key for mutant in mutants}
    if unknown:
        raise ValueError(f'equivalent_mutants.py: expected mutants of the code, got {sorted(unknown)}: remove them')
    drawn = sorted(mutants, key=lambda mutant: mutant.rank(SEED))[:count]
    return [mutant for mutant in drawn if mutant.key not in EQUIVALENT]


def row_of(folder: str, outcomes: Sequence[Outcome]) -> Row:
    survivors = [outcome.mutant for outcome in outcomes if outcome.status == _PASSED]
    found = len(outcomes) - len(survivors)
    equivalent = sum(key[0].startswith(folder) for key in EQUIVALENT)
    text = f'a test fails; {equivalent} more are equivalent' if equivalent else 'a test fails'
    if survivors:
        text = 'no test fails: ' + '; '.join(f'{m.file}:{m.line} `{m.before}` to `{m.after}`' for m in survivors)
        text = text.replace('|', '\\|')  # which ends a cell of the table
    return Row(f'`{folder}`: one change', len(outcomes), found, text)


def try_mutants(mutants: Sequence[Mutant]) -> list[Outcome]:
    """Runs the tests for each mutant, in several processes, each with a copy of the repository."""
    with tempfile.TemporaryDirectory() as folder:
        free: Queue[Runner] = Queue()
        for number in range(PROCESSES):
            free.put(Runner(Path(folder, str(number))))
        first = free.get()
        limits = {name: 20 + 4 * first.whole(name) for name in TESTS}
        free.put(first)

        def run(mutant: Mutant) -> Outcome:
            runner = free.get()
            try:
                return runner.run(mutant, limits[_folder(mutant.file)])
            finally:
                free.put(runner)

        with ThreadPoolExecutor(PROCESSES) as pool:
            outcomes = list(pool.map(run, mutants))
        for _ in range(PROCESSES):
            free.get().close()
    return outcomes


class Runner:
    """A process of tests/mutant_runner.py with a copy of the repository.

    copy: the folder of the copy, which is made.
    """

    def __init__(self, copy: Path) -> None:
        for name in (
            'mmseg_instancenet',
            'tests',
            'tools',
            'configs',
            'benchmarks',
            'docs',
            'pyproject.toml',
            'setup.py',
        ):
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy2(source, copy / name)
        self._copy = copy
        data = os.environ.get(
            'INSTANCENET_TEST_DATA', str(REPOSITORY.parent / 'shared/data')
        )  # as in tests/conftest.py
        environment = {**os.environ, 'PYTHONPATH': str(copy), 'OMP_NUM_THREADS': '1', 'INSTANCENET_TEST_DATA': data}
        command = [sys.executable, str(copy / 'tests/mutant_runner.py'), str(copy)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=copy
        )

    def whole(self, folder: str) -> float:
        """The seconds of the tests of a folder without a fault, which have to pass."""
        file = next((PACKAGE / folder).glob('*.py'))
        status, seconds = self._try(
            f'mmseg_instancenet/{folder}/{file.name}', file.read_text('utf-8'), TESTS[folder], 900
        )
        if status != _PASSED:
            raise RuntimeError(
                f'{folder}: expected tests that pass without a fault, got exit status {status} of pytest'
            )
        return seconds

    def run(self, mutant: Mutant, limit: float) -> Outcome:
        name = f'mmseg_instancenet/{mutant.file}'
        source = (self._copy / name).read_text('utf-8')
        arguments = ['--doctest-modules', name, *tests_of(mutant.file, self._copy)]
        outcome = Outcome(mutant, *self._try(name, mutant.applied(source), arguments, limit))
        print(_line(outcome), file=sys.stderr, flush=True)
        return outcome

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _try(self, file: str, source: str, arguments: Sequence[str], limit: float) -> tuple[int | None, float]:
        assert self._process.stdin is not None and self._process.stdout is not None
        job = {'file': file, 'source': source, 'arguments': list(arguments), 'seconds': limit}
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return answer['status'], answer['seconds']


def tests_of(file: str, repository: Path = REPOSITORY) -> list[str]:
    """The tests for a file of the package; those with words of its name come first, since they find a fault soonest."""
    paths = [repository / path for path in TESTS[_folder(file)]]
    files = [file for path in paths for file in (sorted(path.rglob('test_*.py')) if path.is_dir() else [path])]
    words = set(Path(file).stem.split('_'))
    files.sort(key=lambda path: -len(words & set(path.stem.split('_'))))
    return [path.relative_to(repository).as_posix() for path in files]


def _folder(file: str) -> str:
    return next(folder for folder in TESTS if file.startswith(f'{folder}/'))


def _line(outcome: Outcome) -> str:
    mutant = outcome.mutant
    word = {_PASSED: 'SURVIVED', None: 'too long'}.get(outcome.status, f'found ({outcome.status})')
    return (
        f'{word:10} {outcome.seconds:6.1f} s  {mutant.file}:{mutant.line} {mutant.before[:80]}  ->  {mutant.after[:80]}'
    )
