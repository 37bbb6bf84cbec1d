"""Five hundred random faults in a COCO json; ``make fuzz`` tries twenty thousand."""

import os
import time
from functools import partial

import fuzzer
import pytest
from programs import CONTEXT


def test_no_random_fault_crashes_hangs_or_moves_an_object():
    outcomes, failures = fuzzer.fuzz(0, 500, CONTEXT)
    assert failures == []
    assert min(outcomes.get(name, 0) for name in ('read', 'mended', 'left out', 'refused')) > 20


@pytest.mark.parametrize(
    'fault, line',
    [('crash', 'the process ended with status 3'), ('hang', 'longer than 5 s'), ('error', 'KeyError: .a.')],
)
def test_the_fuzzer_finds_faults_of_the_reader(monkeypatch, fault, line):
    monkeypatch.setattr(fuzzer, 'work', partial(faulty_work, fault))
    outcomes, failures = fuzzer.fuzz(0, 4, CONTEXT)
    assert outcomes == {'read': 3, 'failed': 1}
    (failure,) = failures
    assert failure.startswith('case 2: ') and line.replace('.a.', "'a'") in failure


def faulty_work(fault, numbers, channel):
    """The loop of the fuzzer's process with a reader that fails at case 2."""
    fuzzer.check = partial(faulty_check, fault)
    real_work(numbers, channel)


real_work = fuzzer.work


def faulty_check(fault, number, folder):
    if number == 2:
        if fault == 'crash':
            os._exit(3)
        if fault == 'hang':
            time.sleep(60)
        raise KeyError('a')
    return 'read'
