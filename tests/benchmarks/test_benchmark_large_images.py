"""Tiles of nuclei against the whole image at a tiny size, in this process."""

import numpy as np
import pytest

from benchmarks import large_images
from benchmarks.results import read_rows


def test_objects_that_cross_a_seam():
    whole = np.zeros((100, 100), int)  # cores of tiles of 64 with a margin of 16 meet at 48, 80
    whole[10:20, 40:60], whole[30:40, 50:70], whole[70:90, 70:90] = 1, 2, 3
    tiled = whole.copy()
    tiled[10:20, 58:60] = 0  # 180 of 200 pixels
    tiled[70:73, 70:90] = 4  # leaves 340 of 400
    assert large_images.seam_agreement(whole, tiled, 64, 16) == {
        'at seams': 2,
        'matched at seams': 0.5,
        'all': 3,
        'matched': pytest.approx(2 / 3),
    }


def test_quick_run(test_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(large_images, '_in_own_process', large_images.segment_file)
    large_images.main(['--quick', '--data', str(test_data / 'dsb2018'), '--out', str(tmp_path)])
    whole, cut, tiled, other = read_rows(tmp_path / 'large_images.json')
    assert [row.size for row in (whole, cut, tiled, other)] == [192, 192, 192, 128]
    assert whole.method == 'whole, network in parts' and cut.method == 'tiles of 128, margin 0'
    assert 0 < cut.agreement['at seams'] < cut.agreement['all'] == tiled.agreement['all']
    assert cut.agreement['matched'] <= tiled.agreement['matched'] <= 1
    assert f'{cut.agreement["all"]} objects' in whole.note and whole.note in capsys.readouterr().out
