"""Batches of pictures with their label maps."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from mmseg.registry import MODELS

from mmseg_instancenet.models import InstanceMapDataPreprocessor

SIZES = [(5, 9), (7, 4)]


def make_batch(sizes=SIZES, label_sizes=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for size, label_size in zip(sizes, label_sizes or sizes, strict=True):
        inputs.append(torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8))
        sample = DetDataSample(metainfo={'img_shape': size})
        classes = torch.randint(4, (1, *label_size), generator=generator)
        sample.gt_sem_seg = PixelData(data=classes)
        sample.gt_instance_map = PixelData(data=classes * 300000001)
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}


def build(**settings):
    return MODELS.build({'type': 'InstanceMapDataPreprocessor', **settings})


@pytest.mark.parametrize('divisor, padded', [(1, (7, 9)), (8, (8, 16))])
def test_training_pads_pictures_and_maps(divisor, padded):
    mean, std = [10.0, 20.0, 30.0], [2.0, 4.0, 8.0]
    original, batch = make_batch(), make_batch()
    preprocessor = build(mean=mean, std=std, bgr_to_rgb=True, pad_size_divisor=divisor)
    assert isinstance(preprocessor, InstanceMapDataPreprocessor)
    result = preprocessor(batch, training=True)
    assert result['inputs'].shape == (2, 3, *padded)
    for index, (height, width) in enumerate(SIZES):
        picture, sample = result['inputs'][index], result['data_samples'][index]
        for channel in range(3):
            expected = (original['inputs'][index][2 - channel].float() - mean[channel]) / std[channel]
            torch.testing.assert_close(picture[channel, :height, :width], expected)
        assert not picture[:, height:].any()
        assert not picture[:, :, width:].any()
        assert sample.batch_input_shape == padded
        assert sample.img_shape == SIZES[index]
        for name, padding in (('gt_sem_seg', 255), ('gt_instance_map', -1)):
            label, before = sample.get(name).data, original['data_samples'][index].get(name).data
            assert label.shape == (1, *padded)
            assert label.dtype == torch.long
            assert torch.equal(label[:, :height, :width], before)
            assert (label[:, height:] == padding).all()
            assert (label[:, :, width:] == padding).all()


def test_testing_leaves_the_maps_alone():
    # They have the original size, larger or smaller than the input.
    batch = make_batch(label_sizes=[(10, 18), (3, 2)])
    expected = make_batch(label_sizes=[(10, 18), (3, 2)])
    result = build()(batch, training=False)
    assert result['inputs'].shape == (2, 3, 7, 9)
    for sample, before, shape in zip(result['data_samples'], expected['data_samples'], [(10, 18), (3, 2)], strict=True):
        assert sample.batch_input_shape == (7, 9)
        for name in ('gt_sem_seg', 'gt_instance_map'):
            assert sample.get(name).data.shape == (1, *shape)
            assert torch.equal(sample.get(name).data, before.get(name).data)


def test_pictures_without_data_samples():
    batch = {'inputs': make_batch()['inputs']}
    assert build()(batch, training=False)['inputs'].shape == (2, 3, 7, 9)


def test_a_map_that_is_missing_is_left_to_the_head_to_name():
    batch = make_batch()
    for sample in batch['data_samples']:
        del sample.gt_instance_map
    samples = build()(batch, training=True)['data_samples']
    assert [sample.gt_sem_seg.data.shape for sample in samples] == [(1, 7, 9), (1, 7, 9)]
    assert all('gt_instance_map' not in sample for sample in samples)


@pytest.mark.parametrize('channels_last', [False, True])
def test_order_in_memory(channels_last):
    batch = make_batch([(6, 8), (6, 8)])
    inputs = build(channels_last=channels_last)(batch)['inputs']
    assert inputs.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert inputs.is_contiguous() != channels_last
    assert torch.equal(inputs, torch.stack(make_batch([(6, 8), (6, 8)])['inputs']).float())
