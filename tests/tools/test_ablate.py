"""tools/ablate.py on two small configs: the table, runs that fail, interrupted runs, and seeds that are added."""

import csv
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mmengine.config import Config
from programs import run_program

from mmseg_instancenet.datasets.digits import write_digits

ROOT = Path(__file__).resolve().parents[2]

BASE = """
_base_ = {config!r}
model = dict(
    backbone=dict(base_channels=4),
    decode_head=dict(in_channels=4, channels=8),
    test_cfg=dict(classes='ground_truth'),  # a network that has learned no classes has no pixels to group
)
data = dict(dataset=dict(data_root={data!r}))
train_dataloader = dict(batch_size=4, **data)
val_dataloader = data
test_dataloader = data
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = [dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=2)]
"""
OTHER = "_base_ = './base.py'\nmodel = dict(decode_head=dict(loss_embedding=dict(push_margin=2.5)))\n"
AP = 'coco/segm_mAP_all'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ablation')
    write_digits(folder / 'data', num_train=8, num_val=4)
    config = str(ROOT / 'configs/instancenet_digits.py')
    (folder / 'base.py').write_text(BASE.format(config=config, data=str(folder / 'data')))
    (folder / 'other.py').write_text(OTHER)
    return folder


class Ablation:
    """The tool, whose trainings and tests are forks of a process that has the package imported.

    ``calls`` lists the programs that were started, each with its run; ``before`` is called with each of them.
    """

    def __init__(self, monkeypatch) -> None:
        spec = importlib.util.spec_from_file_location('ablate', ROOT / 'tools/ablate.py')
        self.tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.tool)
        self.calls: list[tuple[str, ...]] = []
        self.before = lambda call: None
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(self.tool.Jobs, 'execute', self.execute)
        monkeypatch.setattr(signal, 'signal', lambda *_: None)

    def execute(self, command, log, gpu):
        call = (Path(command[1]).name, *Path(command[2]).parts[-3:-1])
        self.before(call)
        self.calls.append(call)
        try:
            log.write(run_program(*command[1:]))
        except AssertionError as error:
            log.write(str(error))
            return 1
        finally:
            log.flush()
        return 0

    def run(self, folder, names, seeds, out, *options):
        """Runs the tool; returns the table of ablation.md as a dict by config and metric."""
        configs = [str(folder / f'{name}.py') for name in names]
        argv = ['ablate.py', '--configs', *configs, '--seeds', *map(str, seeds), '--out', str(out), *options]
        self.monkeypatch.setattr(sys, 'argv', argv)
        self.calls.clear()
        self.tool.main()
        return table(out)


def table(out):
    lines = [line.split('|')[1:-1] for line in (out / 'ablation.md').read_text().splitlines() if line.startswith('| ')]
    return {(row[0].strip(), row[1].strip()): [cell.strip() for cell in row[2:]] for row in lines[1:]}


def record(out, name, seed):
    return json.loads((out / name / f'seed_{seed}/run.json').read_text())


@pytest.fixture
def ablation(monkeypatch):
    return Ablation(monkeypatch)


@pytest.fixture(scope='module')
def done(folder):
    """Two configs and two seeds in three commands. The training of the third run fails in the first, as if it were out of
    memory; in the second the tool is interrupted between training and test of this run."""
    out = folder / 'out'
    names, seeds = ('base', 'other'), (0, 1)
    of_command = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        ablation = Ablation(monkeypatch)

        def fail(call):
            if call == ('train.py', 'base', 'seed_1'):
                (out / 'base/seed_1/config.py').rename(out / 'base/seed_1/away.py')

        ablation.before = fail
        with pytest.raises(SystemExit, match=r'^1 of 4 runs failed: base seed 1$'):
            ablation.run(folder, names, seeds, out)
        of_command.append((list(ablation.calls), table(out), (out / 'ablation.json').read_text()))
        (out / 'base/seed_1/away.py').rename(out / 'base/seed_1/config.py')

        def interrupt(call):
            if call[0] == 'test.py':
                raise KeyboardInterrupt

        ablation.before = interrupt
        with pytest.raises(KeyboardInterrupt):
            ablation.run(folder, names, seeds, out)
        of_command.append((list(ablation.calls), table(out), ''))

        ablation.before = lambda call: None
        found = ablation.run(folder, names, seeds, out, '--metric', AP, 'mIoU')
        of_command.append((list(ablation.calls), found, ''))
    return out, of_command


def test_a_failed_run_is_named_and_the_others_go_on(done):
    _, (first, _, _) = done
    calls, found, report = first
    both = ('train.py', 'test.py')
    assert calls == [
        *((tool, name, 'seed_0') for name in ('base', 'other') for tool in both),
        ('train.py', 'base', 'seed_1'),
        *((tool, 'other', 'seed_1') for tool in both),
    ]
    assert 'config not found' in json.loads(report)['failed']['base seed 1']
    assert (found['base', AP][0], found['other', AP][0], found['other', AP][3]) == ('1', '2', '1')


def test_what_is_done_is_not_started_again(done):
    _, (_, second, third) = done
    assert second[0] == [('train.py', 'base', 'seed_1')]
    assert third[0] == [('train.py', 'base', 'seed_1'), ('test.py', 'base', 'seed_1')]


def test_an_interrupted_run_goes_on_from_its_checkpoint(done):
    out, _ = done
    assert 'resumed epoch: 1' in (out / 'base/seed_1/log.txt').read_text()
    assert len(record(out, 'base', 1)['starts']) == 3
    assert 'seed 1 was started 3 times' in (out / 'ablation.md').read_text()


def test_the_table_has_mean_spread_and_paired_difference(done):
    """Of the metrics that the tests logged, with formulas for two values."""
    out, (_, _, (_, found, _)) = done
    assert list(found) == [(name, metric) for name in ('base', 'other') for metric in (AP, 'mIoU')]
    values = {}
    for name in ('base', 'other'):
        for seed in (0, 1):
            (log,) = (out / name / f'seed_{seed}/test').glob('*/*.json')
            logged = json.loads(log.read_text())
            assert record(out, name, seed)['metrics'] == {
                key: value for key, value in logged.items() if '/' in key or key in ('aAcc', 'mIoU', 'mAcc')
            }
            values[name, seed] = logged[AP]
    assert len(set(values.values())) > 2
    rows = {(row['config'], row['metric']): row for row in csv.DictReader((out / 'ablation.csv').open())}
    for name in ('base', 'other'):
        row, (first, second) = rows[name, AP], (values[name, 0], values[name, 1])
        assert float(row['mean']) == pytest.approx((first + second) / 2)
        assert float(row['deviation']) == pytest.approx(abs(first - second) / math.sqrt(2))
        assert found[name, AP][1] == f'{float(row["mean"]):.4g} ± {float(row["deviation"]):.3g}'
    first, second = (values['other', seed] - values['base', seed] for seed in (0, 1))
    row = rows['other', AP]
    assert float(row['difference']) == pytest.approx((first + second) / 2)
    # 12.706 sqrt(2) s / 2, s = |first - second| / sqrt(2)
    assert float(row['high_95']) - float(row['difference']) == pytest.approx(12.706 * abs(first - second) / 2, rel=1e-4)
    assert json.loads((out / 'ablation.json').read_text())['rows'][2]['mean'] == float(row['mean'])


def test_the_notes_have_settings_commit_and_versions(done):
    out, _ = done
    text = (out / 'ablation.md').read_text()
    assert '- settings that differ from `base`: 1\n  - `model.decode_head.loss_embedding.push_margin`: ' in text
    assert ' -> 2.5\n' in text
    assert text.count('->') == 1  # neither the seed nor a folder
    assert re.search(r'torch \d+\.\d+', text) and 'mmseg_instancenet 0.1.0' in text
    git = subprocess.run(['git', '-C', ROOT, 'rev-parse', '--short=10', 'HEAD'], capture_output=True, text=True)
    if git.returncode == 0 and (ROOT / '.git').exists():
        assert f'- commit {git.stdout.strip()}' in text
    else:
        assert '- commit unknown' in text


def test_more_seeds_are_added_and_equal_seeds_give_equal_metrics(done, folder, ablation, tmp_path):
    """Runs in another folder, two at a time, are equal to the last digit."""
    names, again = ('base', 'other'), tmp_path / 'again'
    found = ablation.run(folder, names, [1], again, '--metric', AP, '--jobs', '2')
    assert sorted(ablation.calls) == sorted(
        (tool, name, 'seed_1') for name in names for tool in ('train.py', 'test.py')
    )
    metrics = {name: record(done[0], name, 1)['metrics'] for name in names}
    assert {name: record(again, name, 1)['metrics'] for name in names} == metrics
    difference = f'{metrics["other"][AP] - metrics["base"][AP]:+.3g}'
    assert found['other', AP][:5] == ['1', f'{metrics["other"][AP]:.4g}', difference, '1', '']
    for name in names:
        shutil.copytree(done[0] / name / 'seed_0', again / name / 'seed_0')
    found = ablation.run(folder, names, [0], again, '--metric', AP)
    assert ablation.calls == [] and found['other', AP][:-1] == table(done[0])['other', AP][:-1]


def test_changed_settings_are_refused(done, folder, ablation):
    out, _ = done
    with pytest.raises(SystemExit, match=r'seed_0: expected the settings .* got others: `model.test_cfg.score_thr`: '):
        ablation.run(folder, ['base'], [0], out, '--cfg-options', 'model.test_cfg.score_thr=0.2')
    assert ablation.calls == []


def test_a_metric_that_no_run_has_is_named(done, folder, ablation, tmp_path):
    shutil.copytree(done[0] / 'base/seed_0', tmp_path / 'base/seed_0')
    with pytest.raises(SystemExit, match='--metric coco/AP: no run has it; they have coco/segm_mAP, '):
        ablation.run(folder, ['base'], [0], tmp_path, '--metric', 'coco/AP', AP)
    found = table(tmp_path)
    assert found['base', 'coco/AP'][1] == 'missing in seed 0' and found['base', AP][0] == '1'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--configs', 'a/x.py', 'b/x.py', '--seeds', '0'], '--configs: expected different names or numbers, got x x'),
        (['--configs', 'x.py', '--seeds', '1', '1'], '--seeds: expected different names or numbers, got 1 1'),
        (['--configs', 'x.py', '--seeds', '-1'], 'expected seeds of at least 0'),
        (['--configs', 'x.py', '--seeds', '0', '--jobs', '0'], '--jobs of at least 1'),
    ],
)
def test_wrong_arguments(ablation, monkeypatch, capsys, options, message):
    monkeypatch.setattr(sys, 'argv', ['ablate.py', *options, '--out', 'out'])
    with pytest.raises(SystemExit):
        ablation.tool.main()
    assert message in capsys.readouterr().err


# Processes, on programs that need no import.


@pytest.fixture
def tool(tmp_path):
    spec = importlib.util.spec_from_file_location('ablate', ROOT / 'tools/ablate.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / 'run').mkdir()
    return module, module.Run('x', 0, tmp_path / 'run')


def test_status_output_and_gpu_of_a_process(tool, monkeypatch):
    module, run = tool
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    jobs = module.Jobs(3)
    assert [jobs._gpus.get() for _ in range(3)] == ['3', '5', '3']
    code = 'import os, sys; print(os.environ["CUDA_VISIBLE_DEVICES"]); sys.exit("end")'
    with module.locked_log(run) as log:
        assert jobs.execute([sys.executable, '-S', '-c', code], log, '5') == 1
    assert (run.folder / 'log.txt').read_text() == '5\nend\n'


def test_stopped_jobs_end_their_processes_and_start_no_other(tool):
    module, run = tool
    jobs = module.Jobs(1)
    with module.locked_log(run) as log, ThreadPoolExecutor(1) as pool:
        status = pool.submit(jobs.execute, [sys.executable, '-S', '-c', 'import time; time.sleep(600)'], log, None)
        while not jobs._processes:
            time.sleep(0.01)
        jobs.stop()
        assert status.result() == -signal.SIGTERM
    with pytest.raises(module.RunFailed, match='stopped'):
        jobs.carry_out(run, Config(dict(model=dict(type='A'))))


def test_the_folder_of_a_process_that_outlived_the_tool_is_left_alone(tool):
    module, run = tool
    with module.locked_log(run) as log:
        process = subprocess.Popen([sys.executable, '-S', '-c', 'input()'], stdin=subprocess.PIPE, stdout=log)
    with pytest.raises(module.RunFailed, match='another process is at work in'), module.locked_log(run):
        pass
    process.communicate(b'\n')
    with module.locked_log(run):
        pass


def test_minutes_are_summed_over_all_starts(tool):
    module, run = tool
    for name, seconds in (('20260102_030405', 90), ('20260102_040000', 30)):
        (run.folder / name).mkdir()
        log = run.folder / name / f'{name}.log'
        log.write_text('')
        end = time.mktime(time.strptime(name, '%Y%m%d_%H%M%S')) + seconds
        os.utime(log, (end, end))
    assert module.training_minutes(run.folder) == pytest.approx(2)
