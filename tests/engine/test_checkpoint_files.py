"""Whole checkpoints are told from damaged ones."""

import os

import pytest
import torch

from mmseg_instancenet.engine import checkpoint_files, damage, latest_whole_checkpoint
from mmseg_instancenet.engine.checkpoint_files import AtomicLocalBackend
from mmseg_instancenet.outputs import atomic_file
from mmseg_instancenet.outputs.atomic_file import unfinished_files, write_bytes


def save(path, iteration):
    torch.save({'meta': {'iter': iteration}, 'state_dict': {'weight': torch.arange(5000.0)}}, path)
    return path


def test_a_file_cut_off_anywhere_is_damaged(tmp_path):
    whole = save(tmp_path / 'whole.pth', 1).read_bytes()
    assert damage(tmp_path / 'whole.pth') is None
    cut = tmp_path / 'cut.pth'
    for size in range(0, len(whole), 997):
        cut.write_bytes(whole[:size])
        assert damage(cut), size


def test_a_flipped_bit_of_a_weight_is_found(tmp_path):
    file = save(tmp_path / 'file.pth', 1)
    data = bytearray(file.read_bytes())
    place = data.index(torch.arange(5000.0).numpy().tobytes()) + 7777
    data[place] ^= 1
    file.write_bytes(data)
    assert 'Bad CRC-32' in damage(file) or 'checksum' in damage(file)


def test_the_latest_is_the_one_with_most_iterations(tmp_path):
    save(tmp_path / 'epoch_10.pth', 100)
    save(tmp_path / 'epoch_9.pth', 90)
    save(tmp_path / 'best_mean_epoch_11.pth', 110)
    os.utime(tmp_path / 'epoch_10.pth', (1, 1))  # a copy may have lost its time
    assert latest_whole_checkpoint(tmp_path) == (str(tmp_path / 'epoch_10.pth'), {})


def test_damaged_files_are_left_out_with_a_reason(tmp_path):
    save(tmp_path / 'epoch_1.pth', 10)
    for name in ('epoch_2.pth', 'epoch_3.pth'):
        data = bytearray(save(tmp_path / name, 30).read_bytes())
        data[data.index(torch.arange(5000.0).numpy().tobytes()) + 99] ^= 1
        (tmp_path / name).write_bytes(data)
    (tmp_path / 'epoch_4.pth').write_bytes(b'')
    file, left_out = latest_whole_checkpoint(tmp_path)
    assert file == str(tmp_path / 'epoch_1.pth')
    assert sorted(left_out) == [str(tmp_path / f'epoch_{epoch}.pth') for epoch in (2, 3, 4)]
    assert all(left_out.values())


@pytest.mark.parametrize('text', ['', 'truncat', '/no/such/folder/epoch_1.pth'])
def test_a_broken_last_checkpoint_file_does_no_harm(tmp_path, text):
    (tmp_path / 'last_checkpoint').write_text(text)
    assert latest_whole_checkpoint(tmp_path) == (None, {})
    save(tmp_path / 'epoch_1.pth', 10)
    assert latest_whole_checkpoint(tmp_path) == (str(tmp_path / 'epoch_1.pth'), {})


def test_checkpoints_in_another_folder_count_where_there_are_none(tmp_path):
    elsewhere, work_dir = tmp_path / 'elsewhere', tmp_path / 'run'
    for folder in (elsewhere, work_dir):
        folder.mkdir()
    file = save(elsewhere / 'epoch_2.pth', 20)
    (work_dir / 'last_checkpoint').write_text(str(file))
    assert latest_whole_checkpoint(work_dir) == (str(file), {})
    # A copy of a work dir names the original.
    save(work_dir / 'epoch_1.pth', 10)
    assert latest_whole_checkpoint(work_dir) == (str(work_dir / 'epoch_1.pth'), {})


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, 'No space left on device')

    write_bytes(tmp_path / 'file', b'old')
    monkeypatch.setattr(atomic_file.os, 'fsync', full)
    with pytest.raises(OSError, match='No space'):
        write_bytes(tmp_path / 'file', b'new')
    assert (tmp_path / 'file').read_bytes() == b'old'
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_unfinished_files_are_those_of_the_pattern(tmp_path):
    for name in ('a.pth.12.part', 'a.pth', 'a.csv.12.part'):
        (tmp_path / name).write_text('')
    assert unfinished_files(tmp_path, '*.pth') == [tmp_path / 'a.pth.12.part']


def test_removals_wait_for_the_end_of_the_block(tmp_path):
    backend, files = AtomicLocalBackend(), [tmp_path / name for name in 'abc']
    for file in files:
        backend.put(b'1', file)
    with backend.removing_last() as waiting:
        backend.remove(files[0])
        with backend.removing_last():
            backend.remove(files[1])
        assert waiting == [str(files[0]), str(files[1])] and files[0].exists() and files[1].exists()
    assert [file.exists() for file in files] == [False, False, True]
    with pytest.raises(RuntimeError), backend.removing_last():
        backend.remove(files[2])
        raise RuntimeError
    assert files[2].exists()
    backend.remove(files[2])
    assert not files[2].exists()
    assert checkpoint_files.damage(files[0])
