"""Checkpoints are whole, older ones go last, signals and a full disk lose nothing."""

import errno
import os
import signal
import subprocess
import threading

import pytest
import torch
from mmengine.config import ConfigDict
from random_training import MeanScore, noisy_runner

from mmseg_instancenet.engine import CheckpointNotSavedError, checkpoint_files
from mmseg_instancenet.engine.stop_signals import StopSignals, keep_workers

LOOP = dict(type='ResumableEpochLoop', max_epochs=4, val_interval=2)


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth*'))


def stopped_by_signal(runner, iteration, number=signal.SIGTERM):
    """Trains until a signal in an iteration ends it; returns the exit status."""
    runner.model.at_iteration = lambda now: now == iteration and os.kill(os.getpid(), number)
    with pytest.raises(SystemExit) as end:
        runner.train()
    return end.value.code


def test_older_checkpoints_go_when_the_new_one_is_whole(tmp_path, monkeypatch):
    there = []

    def recording(path, data):
        write(path, data)
        there.append(names(tmp_path))

    write = checkpoint_files.write_bytes
    monkeypatch.setattr(checkpoint_files, 'write_bytes', recording)
    noisy_runner(tmp_path, LOOP).train()
    third = next(files for files in there if 'epoch_3.pth' in files)
    assert {'epoch_1.pth', 'epoch_2.pth'} <= set(third)  # two are to be kept
    best = [name for name in names(tmp_path) if name.startswith('best_')]
    assert names(tmp_path) == [*best, 'epoch_3.pth', 'epoch_4.pth'] and len(best) == 1


def test_a_full_disk_loses_no_checkpoint(tmp_path, monkeypatch):
    def full(path, data):
        if 'epoch_3' in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, data)

    write = checkpoint_files.write_bytes
    monkeypatch.setattr(checkpoint_files, 'write_bytes', full)
    message = r'after iteration 12 was not saved: No space left on device \(\d+ MB are free\). No earlier checkpoint was removed'
    with pytest.raises(CheckpointNotSavedError, match=message) as error:
        noisy_runner(tmp_path, LOOP).train()
    assert error.value.errno == errno.ENOSPC
    assert {'epoch_1.pth', 'epoch_2.pth'} <= set(names(tmp_path))


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_its_iteration_with_a_checkpoint(tmp_path, number, capfd):
    before = signal.getsignal(number)
    assert stopped_by_signal(noisy_runner(tmp_path, LOOP), 5, number) == 128 + number
    assert names(tmp_path) == ['epoch_1.pth', 'interrupted_iter_6.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'interrupted_iter_6.pth')
    meta = torch.load(tmp_path / 'interrupted_iter_6.pth', weights_only=True)['meta']
    assert (meta['epoch'], meta['iter']) == (1, 6)
    assert f'{number.name}: the training stops with a checkpoint' in capfd.readouterr().err
    assert signal.getsignal(number) is before  # a second signal would have ended it


def test_the_checkpoint_of_a_signal_goes_after_the_next_regular_one(tmp_path):
    stopped_by_signal(noisy_runner(tmp_path, LOOP), 5)
    runner = noisy_runner(tmp_path, LOOP, resume=True, load_from=str(tmp_path / 'interrupted_iter_6.pth'))
    assert stopped_by_signal(runner, 8 - 6) == 143  # iteration 8, the first of the third epoch
    assert names(tmp_path)[-3:] == ['epoch_1.pth', 'epoch_2.pth', 'interrupted_iter_9.pth']


def test_at_the_end_of_an_epoch_its_checkpoint_is_enough(tmp_path):
    assert stopped_by_signal(noisy_runner(tmp_path, LOOP), 3) == 143
    assert names(tmp_path) == ['epoch_1.pth']


def test_gradients_that_wait_for_the_next_iteration_delay_the_stop(tmp_path):
    runner = noisy_runner(tmp_path, LOOP)
    runner.optim_wrapper = ConfigDict(optimizer=dict(type='Adam', lr=0.1), accumulative_counts=3)
    assert stopped_by_signal(runner, 0) == 143
    assert names(tmp_path) == ['interrupted_iter_3.pth']


def test_a_signal_in_a_validation_stops_it(tmp_path, monkeypatch):
    def killed(self, data_batch, data_samples):
        os.kill(os.getpid(), signal.SIGTERM)
        process(self, data_batch, data_samples)

    process = MeanScore.process
    monkeypatch.setattr(MeanScore, 'process', killed)
    calls = MeanScore.calls
    with pytest.raises(SystemExit) as end:
        noisy_runner(tmp_path, LOOP).train()
    assert end.value.code == 143
    assert MeanScore.calls == calls
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth']


@pytest.mark.parametrize('epoch', [2, 4])
def test_a_validation_that_failed_is_made_again(tmp_path, monkeypatch, epoch):
    def failing(self, results):
        if runner.epoch == epoch:
            raise RuntimeError('no validation')
        return compute(self, results)

    compute = MeanScore.compute_metrics
    monkeypatch.setattr(MeanScore, 'compute_metrics', failing)
    runner = noisy_runner(tmp_path, LOOP)
    with pytest.raises(RuntimeError, match='no validation'):
        runner.train()
    assert f'epoch_{epoch}.pth' in names(tmp_path)
    monkeypatch.setattr(MeanScore, 'compute_metrics', compute)
    calls = MeanScore.calls
    resumed = noisy_runner(tmp_path, LOOP, resume=True, load_from=str(tmp_path / f'epoch_{epoch}.pth'))
    resumed.train()
    assert MeanScore.calls - calls == (4 - epoch) // 2 + 1
    assert any(name.startswith('best_mean') for name in names(tmp_path))


def test_leftovers_of_a_kill_are_removed_and_nothing_else(tmp_path):
    folder = tmp_path / 'run'
    stopped_by_signal(noisy_runner(folder, LOOP), 9)
    file = folder / 'interrupted_iter_10.pth'
    checkpoint = torch.load(file, weights_only=True)
    outside, user = tmp_path / 'outside.pth', folder / 'of_a_user.pth'
    # As if it was killed when the second epoch's was written and the first one's not yet removed; from a stranger, who
    # names a file elsewhere.
    checkpoint['meta']['outdated_checkpoints'] = ['epoch_1.pth', '../outside.pth', 'notes.txt']
    torch.save(checkpoint, file)
    for path in (outside, user, folder / 'notes.txt', folder / 'epoch_3.pth.0123.part'):
        path.write_text('')
    stopped_by_signal(noisy_runner(folder, LOOP, resume=True, load_from=str(file)), 0)
    left = names(folder)
    assert 'epoch_1.pth' not in left and 'epoch_3.pth.0123.part' not in left
    assert outside.exists() and user.exists() and (folder / 'notes.txt').exists()


def test_signals_reach_the_main_thread_only():
    signals = StopSignals()
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=signals.listen)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
    assert signals.agreed() == 0


def test_workers_outlive_the_signals_of_others_and_obey_the_training(tmp_path):
    runner = noisy_runner(tmp_path, LOOP, workers=1)
    loader = runner.train_dataloader
    keep_workers(loader)
    batches = iter(loader)
    first = next(batches)
    worker = batches._workers[0]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
        subprocess.run(['kill', f'-{number.value}', str(worker.pid)], check=True)  # by another process, as a queue does
    assert len([first, *batches]) == len(loader)
    batches = iter(loader)
    next(batches)
    worker = batches._workers[0]
    worker.terminate()
    worker.join(timeout=60)
    assert worker.exitcode == 0
