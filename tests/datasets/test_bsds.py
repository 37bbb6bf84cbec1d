"""The Berkeley data set: its files, its training label, and its pipeline."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.config import Config
from mmseg.registry import DATASETS
from scipy.io import loadmat, savemat

from mmseg_instancenet.datasets import BSDSDataset
from mmseg_instancenet.datasets.transforms import BoundaryConsensus, boundary_consensus
from mmseg_instancenet.datasets.transforms.boundaries import read_bsds_boundaries
from mmseg_instancenet.models import InstanceMapDataPreprocessor

CONFIG = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets' / 'bsds500.py'
TEST = [{'type': 'LoadImageFromFile'}, {'type': 'LoadBSDSBoundaries'}, {'type': 'PackInstanceMaps'}]


def write_truth(path: Path, boundaries: list[np.ndarray]) -> None:
    cell = np.empty((1, len(boundaries)), object)
    for index, boundary in enumerate(boundaries):
        cell[0, index] = {'Segmentation': boundary.astype(np.uint16), 'Boundaries': boundary.astype(np.uint8)}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {'groundTruth': cell})


def write_set(root: Path, names: list[str], size: tuple[int, int] = (30, 40), annotators: int = 3) -> np.ndarray:
    """Writes images whose pixels encode their position; lines in row 10 (all annotators), row 20 (one) and a column
    (two)."""
    row, column = np.mgrid[: size[0], : size[1]]
    drawn = np.zeros((annotators, *size), bool)
    drawn[:, 10] = drawn[0, 20] = drawn[:2, :, 25] = True
    for name in names:
        path = root / 'images' / f'{name}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path.with_suffix('.png')), np.stack([row, column, 0 * row], 2).astype(np.uint8))
        path.with_suffix('.png').rename(path)  # a png in truth: no compression moves the values
        write_truth(root / 'groundTruth' / f'{name}.mat', list(drawn))
    return drawn


def test_splits_follow_one_another(tmp_path):
    write_set(tmp_path, ['train/2', 'train/1', 'val/3', 'test/4'])
    assert [info['img_id'] for info in BSDSDataset(str(tmp_path), splits=['train', 'val'])] == ['1', '2', '3']
    dataset = DATASETS.build(dict(type='BSDSDataset', data_root=str(tmp_path), splits='test', test_mode=True))
    assert len(dataset) == 1
    assert dataset[0]['seg_map_path'] == str(tmp_path / 'groundTruth' / 'test' / '4.mat')
    assert dataset.metainfo['classes'] == ('background', 'boundary')


def test_missing_folder(tmp_path):
    write_set(tmp_path, ['train/1'])
    with pytest.raises(FileNotFoundError, match='images/val.*Set data_root and splits'):
        BSDSDataset(str(tmp_path), splits='val')


def test_folder_without_images(tmp_path):
    write_set(tmp_path, ['train/1'])
    (tmp_path / 'images' / 'train' / '1.jpg').unlink()
    with pytest.raises(ValueError, match='no images.*train'):
        BSDSDataset(str(tmp_path), splits='train')


def test_image_without_ground_truth(tmp_path):
    write_set(tmp_path, ['train/1', 'train/2'])
    (tmp_path / 'groundTruth' / 'train' / '2.mat').unlink()
    with pytest.raises(FileNotFoundError, match=r"1 images of split 'train' have no ground truth.*train/2\.mat"):
        BSDSDataset(str(tmp_path), splits='train')


def test_ground_truth_without_image(tmp_path):
    write_set(tmp_path, ['train/1', 'train/2'])
    (tmp_path / 'images' / 'train' / '1.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r"1 ground truths of split 'train' have no image.*train/1\.mat"):
        BSDSDataset(str(tmp_path), splits='train')


def test_ground_truth_of_another_size(tmp_path):
    write_set(tmp_path, ['train/1'])
    write_truth(tmp_path / 'groundTruth' / 'train' / '1.mat', [np.zeros((40, 30))])
    with pytest.raises(ValueError, match=r'1\.mat is \(40, 30\) pixels.*1\.jpg is \(30, 40\)'):
        BSDSDataset(str(tmp_path), splits='train', pipeline=TEST)[0]


def test_files_that_are_no_ground_truth(tmp_path):
    with pytest.raises(ValueError, match='x.mat: expected a MATLAB 5 file'):
        read_bsds_boundaries(b'not a file of MATLAB', 'x.mat')
    savemat(tmp_path / 'other.mat', {'other': np.zeros(3)})
    with pytest.raises(ValueError, match=r'expected a MATLAB 5 file with a cell groundTruth.*KeyError'):
        read_bsds_boundaries((tmp_path / 'other.mat').read_bytes(), 'other.mat')
    write_truth(tmp_path / 'none.mat', [])
    with pytest.raises(ValueError, match='at least one annotator'):
        read_bsds_boundaries((tmp_path / 'none.mat').read_bytes(), 'none.mat')
    write_truth(tmp_path / 'two.mat', [np.zeros((3, 4)), np.zeros((4, 3))])
    with pytest.raises(ValueError, match=r'two.mat: expected boundary maps of one shape .*\(3, 4\), \(4, 3\)'):
        read_bsds_boundaries((tmp_path / 'two.mat').read_bytes(), 'two.mat')


def test_steps_in_the_wrong_order(tmp_path):
    write_set(tmp_path, ['train/1'])
    info = BSDSDataset(str(tmp_path), splits='train')[0]
    with pytest.raises(KeyError, match='LoadImageFromFile'):
        Compose([TEST[1]])(dict(info))
    with pytest.raises(KeyError, match='LoadBSDSBoundaries'):
        Compose([TEST[0], {'type': 'BoundaryConsensus'}])(dict(info))
    with pytest.raises(KeyError, match='gt_seg_map'):
        Compose([TEST[0], {'type': 'ClassesToInstances'}])(dict(info))
    resize = {'type': 'mmdet.Resize', 'scale': (20, 15)}
    with pytest.raises(ValueError, match='put BoundaryConsensus before resizes'):
        Compose([*TEST[:2], resize, {'type': 'BoundaryConsensus'}])(dict(info))


@pytest.mark.parametrize('consensus', [-0.1, 1])
def test_consensus_is_a_share(consensus):
    with pytest.raises(ValueError, match='expected a consensus from 0 to below 1'):
        BoundaryConsensus(consensus)


@pytest.mark.parametrize('consensus', [0, 0.3, 0.5, 0.9])
def test_consensus_against_a_plain_vote(consensus):
    drawn = np.random.default_rng(0).random((4, 9, 11)) < 0.4
    label = boundary_consensus(drawn, consensus)
    assert label.dtype == np.uint8
    for row in range(9):
        for column in range(11):
            votes = [bool(drawn[annotator, row, column]) for annotator in range(4)]
            expected = 0 if not any(votes) else 1 if sum(votes) / 4 > consensus else 255
            assert label[row, column] == expected


def test_packed_for_training(tmp_path):
    write_set(tmp_path, ['train/1'])
    steps = [*TEST[:2], {'type': 'BoundaryConsensus'}, {'type': 'ClassesToInstances'}, TEST[2]]
    packed = BSDSDataset(str(tmp_path), splits='train', pipeline=steps)[0]
    expected = np.zeros((30, 40), int)
    expected[20] = 255  # one of three
    expected[:, 25] = 1  # two of three
    expected[10] = 1
    sample = packed['data_samples']
    np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), expected)
    np.testing.assert_array_equal(sample.gt_instance_map.data[0].numpy(), np.where(expected == 255, -1, expected))
    assert 'gt_boundaries' not in sample


def test_testing_keeps_every_annotator_at_the_original_size(tmp_path):
    drawn = write_set(tmp_path, ['test/1'])
    steps = [*TEST[:2], {'type': 'mmdet.Resize', 'scale': (20, 15)}, TEST[2]]
    packed = BSDSDataset(str(tmp_path), splits='test', test_mode=True, pipeline=steps)[0]
    assert packed['inputs'].shape == (3, 15, 20)
    np.testing.assert_array_equal(packed['data_samples'].gt_boundaries.data.numpy(), drawn)
    batch = {'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}
    sample = InstanceMapDataPreprocessor(pad_size_divisor=32)(batch)['data_samples'][0]
    np.testing.assert_array_equal(sample.gt_boundaries.data.numpy(), drawn)


@pytest.mark.parametrize(
    'steps',
    [
        [{'type': 'RandomFlip', 'prob': 1.0}, {'type': 'RandomCrop', 'crop_size': (16, 24)}],
        [{'type': 'mmdet.RandomFlip', 'prob': 1.0}],
        [{'type': 'Resize', 'scale': (80, 60)}],
        [{'type': 'RandomResize', 'resize_type': 'mmdet.Resize', 'scale': (80, 60), 'ratio_range': (1.0, 1.0)}],
    ],
)
def test_label_follows_the_image(tmp_path, steps):
    """Each pixel of the image encodes its original position; the label equals the label there."""
    drawn = write_set(tmp_path, ['train/1'])
    pipeline = [*TEST[:2], {'type': 'BoundaryConsensus'}, *steps, {'type': 'ClassesToInstances'}, TEST[2]]
    packed = BSDSDataset(str(tmp_path), splits='train', pipeline=pipeline)[0]
    label = packed['data_samples'].gt_sem_seg.data[0].numpy()
    assert label.shape == packed['inputs'].shape[1:]
    row, column = packed['inputs'][0].numpy().astype(int), packed['inputs'][1].numpy().astype(int)
    if 'Resize' in steps[0]['type']:  # twice the size: interpolated images, repeated labels
        row, column = np.mgrid[:60, :80] // 2
        np.testing.assert_allclose(packed['inputs'][0].numpy(), row, atol=1)
    np.testing.assert_array_equal(label, boundary_consensus(drawn)[row, column])


def test_corners_of_a_rotation_are_ignored(tmp_path):
    write_set(tmp_path, ['train/1'])
    rotate = {'type': 'RandomRotate', 'prob': 1.0, 'degree': (30, 30), 'seg_pad_val': 255}
    steps = [*TEST[:2], {'type': 'BoundaryConsensus', 'consensus': 0}, rotate, {'type': 'ClassesToInstances'}, TEST[2]]
    sample = BSDSDataset(str(tmp_path), splits='train', pipeline=steps)[0]['data_samples']
    class_map = sample.gt_sem_seg.data[0].numpy()
    assert class_map[0, 0] == class_map[0, -1] == class_map[-1, 0] == class_map[-1, -1] == 255
    assert set(np.unique(class_map)) == {0, 1, 255}
    np.testing.assert_array_equal(sample.gt_instance_map.data[0].numpy() == -1, class_map == 255)


def test_config_on_real_images(test_data):
    config = Config.fromfile(CONFIG)
    assert config.train_dataloader.dataset.splits == ['train', 'val']
    assert config.test_dataloader.dataset.splits == ['test']
    config.merge_from_dict({'train_dataloader.dataset.splits': 'train', 'val_dataloader.dataset.splits': 'val'})
    root = str(test_data / 'bsds500')
    train = DATASETS.build(dict(config.train_dataloader.dataset, data_root=root))
    val = DATASETS.build(dict(config.val_dataloader.dataset, data_root=root))
    assert (len(train), len(val)) == (40, 20)
    for index in range(3):
        packed = train[index]
        sample = packed['data_samples']
        class_map, ids = sample.gt_sem_seg.data[0].numpy(), sample.gt_instance_map.data[0].numpy()
        assert class_map.shape == packed['inputs'].shape[1:]
        assert all(side % 8 == 0 for side in class_map.shape)
        assert set(np.unique(class_map)) == {0, 1, 255}
        np.testing.assert_array_equal(ids, np.where(class_map == 255, -1, class_map))
    for index in range(3):
        sample = val[index]['data_samples']
        annotators = loadmat(test_data / 'bsds500' / 'groundTruth' / 'val' / f'{sample.img_id}.mat')['groundTruth'][0]
        drawn = [annotator['Boundaries'][0, 0] for annotator in annotators]
        np.testing.assert_array_equal(sample.gt_boundaries.data.numpy(), np.array(drawn) == 1)
        assert sample.ori_shape == drawn[0].shape
