"""ImageJ's ROIs, read back by roifile."""

import sys
from zipfile import ZipFile

import numpy as np
import pytest
from instance_results import ragged_masks, result_of

from mmseg_instancenet.outputs import write_rois

ROIFILE = "roifile is not installed: pip install -e '.[rois]'"


def inside(rings, height: int, width: int) -> np.ndarray:
    """The pixels whose middle is within an odd number of rings, as ImageJ fills composites: each edge to the left counts."""
    found = np.zeros((height, width), bool)
    row = np.arange(height) + 0.5
    for ring in rings:
        for (x, y), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if x == x2:
                crossed = (row > min(y, y2)) & (row < max(y, y2))
                found[np.ix_(crossed, np.arange(width) + 0.5 > x)] ^= True
            else:
                assert y == y2  # along the edges of the pixels
    return found


@pytest.mark.parametrize('seed', range(3))
def test_rois_have_the_pixels_of_the_masks(tmp_path, seed):
    roifile = pytest.importorskip('roifile', reason=ROIFILE)
    masks = ragged_masks(seed)
    write_rois(result_of(masks), tmp_path / 'image.zip')
    rois = roifile.roiread(tmp_path / 'image.zip')
    for roi, mask in zip(rois, masks, strict=True):
        rings = roi.coordinates(multi=True)
        np.testing.assert_array_equal(inside(rings, *mask.shape), mask)
        rows, columns = mask.nonzero()
        assert (roi.left, roi.top) == (columns.min(), rows.min())
        assert (roi.right, roi.bottom) == (columns.max() + 1, rows.max() + 1)
        kind = roifile.ROI_TYPE.TRACED if len(rings) == 1 else roifile.ROI_TYPE.RECT  # RECT is the type of composites
        assert roi.roitype == kind and roi.composite == (len(rings) > 1)
    assert {roi.composite for roi in rois} == {True, False}


def test_names_classes_and_scores(tmp_path):
    roifile = pytest.importorskip('roifile', reason=ROIFILE)
    write_rois(result_of(ragged_masks(seed=0)[:3], ['cat', 'a/dög']), tmp_path / 'image.zip')
    rois = roifile.roiread(tmp_path / 'image.zip')
    assert [roi.name for roi in rois] == ['00001-a_dög', '00002-cat', '00003-a_dög']
    with ZipFile(tmp_path / 'image.zip') as archive:  # roifile before 2026.1.20 cuts properties off when it reads them
        assert archive.namelist() == ['00001-a_dög.roi', '00002-cat.roi', '00003-a_dög.roi']
        assert archive.read('00001-a_dög.roi').endswith('class: a/dög\nscore: 0.9\n'.encode('utf-16-be'))
        assert archive.read('00002-cat.roi').endswith('class: cat\nscore: 0.45\n'.encode('utf-16-be'))
    assert [roi.group for roi in rois] == [2, 1, 2]
    write_rois(result_of(ragged_masks(seed=1)[:1]), tmp_path / 'image.zip')  # in its place
    assert [roi.name for roi in roifile.roiread(tmp_path / 'image.zip')] == ['00001-dog']


def test_no_instance_and_more_classes_than_groups(tmp_path):
    roifile = pytest.importorskip('roifile', reason=ROIFILE)
    write_rois(result_of(np.zeros((0, 5, 5), bool)), tmp_path / 'image.zip')
    assert roifile.roiread(tmp_path / 'image.zip') == []
    masks = np.eye(400, dtype=bool).reshape(400, 20, 20)
    write_rois(result_of(masks, [str(index) for index in range(400)]), tmp_path / 'image.zip')
    groups = [roi.group for roi in roifile.roiread(tmp_path / 'image.zip')]
    assert groups == [2, *range(3, 256), *[0] * 145, 1]


def test_coordinates_beyond_sixteen_bits(tmp_path):
    roifile = pytest.importorskip('roifile', reason=ROIFILE)
    masks = np.zeros((2, 4, 70_000), bool)
    masks[0, 1:3, 69_990:69_998] = True
    masks[1, :, 69_999] = masks[1, 0, 69_000] = True  # composite
    write_rois(result_of(masks), tmp_path / 'image.zip')
    rois = roifile.roiread(tmp_path / 'image.zip')
    for roi, mask in zip(rois, masks, strict=True):
        np.testing.assert_array_equal(inside(roi.coordinates(multi=True), *mask.shape), mask)


def test_without_roifile(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'roifile', None)
    with pytest.raises(ImportError, match='need roifile, .* pip install'):
        write_rois(result_of(ragged_masks(seed=0)), tmp_path / 'image.zip')
