"""Label images, read back by OpenCV and tifffile."""

import cv2
import numpy as np
import pytest
import tifffile
from instance_results import ragged_masks, result_of

from mmseg_instancenet.outputs import InstanceResult, write_label_image
from mmseg_instancenet.structures import RunLengthMasks


def numbered(count: int) -> InstanceResult:
    """An instance in each pixel."""
    labels = np.zeros((257, 256), np.int32)
    labels.flat[:count] = np.arange(1, count + 1)
    nothing = np.zeros(count, np.float32)
    return InstanceResult(
        labels, nothing.astype(int), nothing, np.zeros((count, 4)), RunLengthMasks([], (257, 256)), ('a',)
    )


@pytest.mark.parametrize('ending', ['.png', '.tif'])
@pytest.mark.parametrize('count', [0, 1, 6])
def test_sixteen_bits(tmp_path, ending, count):
    result = result_of(ragged_masks(seed=0)[:count])
    path = write_label_image(result, tmp_path / '1.5', ending)
    assert path == tmp_path / f'1.5{ending}'
    readings = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED)] + ([tifffile.imread(path)] if ending == '.tif' else [])
    for labels in readings:
        assert labels.dtype == np.uint16
        np.testing.assert_array_equal(labels, result.labels)


@pytest.mark.parametrize('ending', ['.png', '.tif'])
@pytest.mark.parametrize('count, written, dtype', [(65535, None, np.uint16), (65536, '.tif', np.int32)])
def test_more_instances_than_sixteen_bits_hold(tmp_path, ending, count, written, dtype):
    result = numbered(count)
    path = write_label_image(result, tmp_path / 'image', ending)
    assert path.suffix == (written or ending)
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert labels.dtype == dtype and labels.max() == count
    np.testing.assert_array_equal(labels, result.labels)
    if path.suffix == '.tif':
        np.testing.assert_array_equal(tifffile.imread(path), result.labels)


def test_another_ending(tmp_path):
    with pytest.raises(ValueError, match=r"out of \.png, \.tif, got '\.jpg'"):
        write_label_image(numbered(1), tmp_path / 'image', '.jpg')
