import json
import mmap

import pytest
import torch

from benchmarks.agreement import expect_index
from benchmarks.comparison import DisagreementError, compare, largest_difference
from benchmarks.machine import describe_machine
from benchmarks.measure import Candidate, median_seconds, warm_up
from benchmarks.results import (
    OURS,
    Row,
    not_measured,
    plot_cost,
    ratios_to_ours,
    read_rows,
    write_report,
)
from mmseg_instancenet.analysis.measure import resident_peak, torch_peak

ROWS = [
    Row('b', 'D=4', 64, OURS, 'cpu', 0.5, 2**20, repeats=5),
    Row('b', 'D=4', 64, 'dense', 'cpu', 2.0, 2**22, repeats=5, agreement={'largest difference': 1e-6}),
    Row('b', 'D=4', 256, OURS, 'cpu', 1.0, 2**21, repeats=5),
    Row('b', 'D=4', 256, 'dense', 'cpu', 30.0, 2**26, 'resident', repeats=1, note='a note'),
    not_measured('b', 'D=4', 1024, 'dense', 'cpu', 'takes too long'),
]


def test_ratios_are_within_a_case():
    assert ratios_to_ours(ROWS) == [1, 4, 1, 30, None]
    assert ratios_to_ours(ROWS[1:2]) == [None], 'nothing to compare with'


def test_json_and_back(tmp_path):
    path = tmp_path / 'new' / 'b.json'
    write_report(ROWS, path, 'python -m benchmarks.b', describe_machine(), failed={'c': 1})
    assert read_rows(path) == ROWS
    report = json.loads(path.read_text())
    assert report['command'] == 'python -m benchmarks.b'
    assert report['failed'] == {'c': 1}
    assert report['machine']['threads'] == torch.get_num_threads()
    assert report['machine']['torch'] == torch.__version__
    assert report['machine']['matrix_product_gflops']['cpu'] > 0
    assert (report['machine']['gpu'] is None) == (not torch.cuda.is_available())
    assert [row['times_ours'] for row in report['rows']] == [1, 4, 1, 30, None]


def test_image_only_of_growing_sizes(tmp_path):
    assert plot_cost(ROWS, tmp_path / 'b.png')
    assert (tmp_path / 'b.png').stat().st_size > 1000
    assert not plot_cost(ROWS[:2], tmp_path / 'c.png')
    assert not (tmp_path / 'c.png').exists()


def test_memory_of_torch_counts_tensors_that_exist_at_once():
    def run():
        kept = torch.zeros(1000)
        for _ in range(3):
            kept = kept + torch.zeros(1000)
        return kept

    output, peak_bytes = torch_peak(run, 'cpu')
    assert output.shape == (1000,)
    assert peak_bytes == 3 * 4000, 'the sum so far, what is added, and the new sum'


def take_memory(size: int) -> int:
    """Writes to new pages: a bytearray may get some that earlier tests have left to Python's allocator."""
    with mmap.mmap(-1, size) as pages:
        for start in range(0, size, mmap.PAGESIZE):
            pages[start] = 1
        return len(pages)


def test_resident_memory_includes_libraries():
    output, peak_bytes = resident_peak(lambda: take_memory(2**26))
    assert output == 2**26
    if peak_bytes is None:
        pytest.skip('this system does not tell the high-water mark')
    assert 0.9 * 2**26 < peak_bytes < 1.5 * 2**26


def test_candidates_take_turns():
    order = []
    candidates = [
        Candidate('a', lambda: order.append('a') or 'result of a', repeats=3),
        Candidate('b', lambda: order.append('b'), repeats=1),
    ]
    outputs, _ = warm_up(candidates, 'cpu')
    assert outputs == {'a': 'result of a', 'b': None}
    assert set(median_seconds(candidates, 'cpu')) == {'a', 'b'}
    assert ''.join(order) == 'ab' + 'ab' + 'aa'


def test_time_of_a_part_is_multiplied(monkeypatch):
    monkeypatch.setattr('benchmarks.measure.seconds_of', lambda run, device: run())
    times = iter([3.0, 1.0, 2.0])
    candidate = Candidate('dense', lambda: next(times), repeats=3, times=10)
    assert median_seconds([candidate], 'cpu') == {'dense': 20.0}


def test_nothing_is_timed_before_results_agree():
    calls = []

    def disagree(outputs):
        raise DisagreementError(f'got {outputs}')

    with pytest.raises(DisagreementError, match="got {'ours': 1}"):
        compare('b', '', 1, 'cpu', [Candidate(OURS, lambda: calls.append(0) or len(calls))], disagree)
    assert len(calls) == 1


def test_disagreement_gives_the_difference():
    with pytest.raises(DisagreementError, match='at most 0.0001 of the largest value, got 0.25'):
        largest_difference([torch.tensor([1.0, 4.0])], [torch.tensor([2.0, 4.0])])
    with pytest.raises(DisagreementError, match='got nan'):
        largest_difference([torch.tensor([float('nan')])], [torch.tensor([1.0])])
    with pytest.raises(
        DisagreementError, match='64 pixels: expected an adjusted Rand index of at least 0.999, got 0.9500'
    ):
        expect_index(0.95, '64 pixels')
