"""Batches of images with their label maps."""

import copy

import mmengine
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
def test_training_pads_images_and_maps(divisor, padded):
    mean, std = [10.0, 20.0, 30.0], [2.0, 4.0, 8.0]
    original, batch = make_batch(), make_batch()
    preprocessor = build(mean=mean, std=std, bgr_to_rgb=True, pad_size_divisor=divisor)
    assert isinstance(preprocessor, InstanceMapDataPreprocessor)
    result = preprocessor(batch, training=True)
    assert result['inputs'].shape == (2, 3, *padded)
    for index, (height, width) in enumerate(SIZES):
        image, sample = result['inputs'][index], result['data_samples'][index]
        for channel in range(3):
            expected = (original['inputs'][index][2 - channel].float() - mean[channel]) / std[channel]
            torch.testing.assert_close(image[channel, :height, :width], expected)
        assert not image[:, height:].any()
        assert not image[:, :, width:].any()
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


def test_images_without_data_samples():
    batch = {'inputs': make_batch()['inputs']}
    assert build()(batch, training=False)['inputs'].shape == (2, 3, 7, 9)


def test_a_missing_map_is_reported_by_the_head():
    batch = make_batch()
    for sample in batch['data_samples']:
        del sample.gt_instance_map
    samples = build()(batch, training=True)['data_samples']
    assert [sample.gt_sem_seg.data.shape for sample in samples] == [(1, 7, 9), (1, 7, 9)]
    assert all('gt_instance_map' not in sample for sample in samples)


# The words of mmseg's SegDataPreProcessor

MMSEG = {'mean': [10.0, 20.0, 30.0], 'std': [2.0, 4.0, 8.0], 'bgr_to_rgb': True}


def mmseg_batch(sizes=SIZES):
    """Samples that mmseg's own preprocessor takes too, with an edge map and a depth map."""
    batch = make_batch(sizes)
    for index, sample in enumerate(batch['data_samples']):
        height, width = sizes[index]
        sample.gt_edge_map = PixelData(data=torch.arange(height * width).reshape(1, height, width) % 2)
        sample.gt_depth_map = PixelData(data=torch.rand(1, height, width))
    return batch


@pytest.mark.parametrize(
    'words',
    [
        {'size': (12, 10), 'pad_val': 3, 'seg_pad_val': 255},
        {'size': (12, 10), 'pad_val': 0, 'seg_pad_val': 7},
        {'size_divisor': 8, 'pad_val': 0.5, 'seg_pad_val': 255, 'test_cfg': {'size_divisor': 32}},
        {'size_divisor': 1},
    ],
)
def test_in_training_the_batch_is_mmsegs(words):
    torch.manual_seed(0)
    batch = mmseg_batch()
    expected = MODELS.build({'type': 'SegDataPreProcessor', **MMSEG, **words})(copy.deepcopy(batch), training=True)
    result = build(**MMSEG, **words)(copy.deepcopy(batch), training=True)
    assert torch.equal(result['inputs'], expected['inputs'])
    for sample, theirs in zip(result['data_samples'], expected['data_samples'], strict=True):
        for name in ('gt_sem_seg', 'gt_edge_map', 'gt_depth_map'):
            assert torch.equal(sample.get(name).data, theirs.get(name).data)
        assert tuple(sample.pad_shape) == tuple(theirs.pad_shape[-2:]) == tuple(expected['inputs'].shape[-2:])
        assert tuple(sample.padding_size) == tuple(theirs.padding_size)


def test_instance_map_is_padded_to_size_with_ignore():
    original = make_batch([(5, 9)])['data_samples'][0].gt_instance_map.data
    sample = build(size=(8, 16))(make_batch([(5, 9)]), training=True)['data_samples'][0]
    padded = sample.gt_instance_map.data
    assert padded.shape == (1, 8, 16) and torch.equal(padded[:, :5, :9], original)
    assert (padded[:, 5:] == -1).all() and (padded[:, :, 9:] == -1).all()


def test_an_image_larger_than_size_makes_the_batch_larger():
    result = build(size=(6, 8))(make_batch(), training=True)  # mmseg's own cannot stack these
    assert result['inputs'].shape == (2, 3, 7, 9)
    assert all(sample.gt_sem_seg.data.shape == (1, 7, 9) for sample in result['data_samples'])


@pytest.mark.parametrize('test_cfg', [None, {'size': (12, 10)}, {'size_divisor': 8}])
def test_in_testing_test_cfg_replaces_size(test_cfg):
    batch = make_batch([(5, 9), (5, 9)])
    words = {**MMSEG, 'size': (64, 64), 'pad_val': 2, 'test_cfg': test_cfg}
    expected = MODELS.build({'type': 'SegDataPreProcessor', **words})(copy.deepcopy(batch), training=False)
    result = build(**words)(copy.deepcopy(batch), training=False)
    assert torch.equal(result['inputs'], expected['inputs'])
    for sample, before in zip(result['data_samples'], batch['data_samples'], strict=True):
        assert torch.equal(sample.gt_instance_map.data, before.gt_instance_map.data)
        height, width = result['inputs'].shape[-2:]
        assert tuple(sample.pad_shape) == (height, width)
        assert tuple(sample.padding_size) == (0, width - 9, 0, height - 5)


def test_a_config_of_mmseg_builds_by_its_type_alone():
    base = mmengine.Config(dict(model=dict(data_preprocessor=dict(
        type='SegDataPreProcessor', **MMSEG, pad_val=0, seg_pad_val=255, size=(512, 1024),
        test_cfg=dict(size_divisor=32),
    ))))  # fmt: skip
    base.merge_from_dict({'model': {'data_preprocessor': {'type': 'InstanceMapDataPreprocessor'}}})
    preprocessor = MODELS.build(base.model.data_preprocessor)
    assert isinstance(preprocessor, InstanceMapDataPreprocessor)
    assert preprocessor(make_batch(), training=True)['inputs'].shape == (2, 3, 512, 1024)
    assert preprocessor(make_batch(), training=False)['inputs'].shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    'words, message',
    [
        ({'size_divisor': 8, 'pad_size_divisor': 8}, 'pad_size_divisor or size_divisor, got both'),
        ({'size': (8, 8), 'pad_size_divisor': 8}, 'pad_size_divisor or size, got both'),
        ({'test_cfg': {'size_divisor': 8}, 'pad_size_divisor': 8}, 'pad_size_divisor or test_cfg, got both'),
        ({'size': (8, 8), 'size_divisor': 8}, 'size or size_divisor, got both'),
        ({'test_cfg': {'size': (8, 8), 'size_divisor': 8}}, "'size'.* or .*'size_divisor'.*, got both"),
        ({'pad_val': 0, 'pad_value': 0}, 'pad_value or pad_val, got both'),
        ({'test_cfg': {'crop_size': 3}}, "'size' or 'size_divisor', got {'crop_size': 3}"),
        ({'batch_augments': [{'type': 'Mixup'}]}, 'a function of .inputs, data_samples., got .*Mixup'),
    ],
)
def test_settings_that_contradict_each_other(words, message):
    with pytest.raises(ValueError, match=message):
        build(**words)


def test_a_setting_of_the_base_is_cancelled_by_none():
    preprocessor = build(size=None, size_divisor=None, pad_size_divisor=8, pad_val=None, pad_value=1)
    inputs = preprocessor(make_batch(), training=True)['inputs']
    assert inputs.shape == (2, 3, 8, 16) and (inputs[..., 9:] == 1).all()


def test_batch_augments_is_called_in_training_with_the_padded_batch():
    seen = []

    def halve(inputs, samples):
        seen.append((tuple(inputs.shape), samples[0].gt_instance_map.data.shape))
        return inputs / 2, samples

    plain = build(size=(8, 16))(make_batch(), training=True)['inputs']
    preprocessor = build(size=(8, 16), batch_augments=halve)
    assert torch.equal(preprocessor(make_batch(), training=True)['inputs'], plain / 2)
    assert seen == [((2, 3, 8, 16), (1, 8, 16))]
    preprocessor(make_batch(), training=False)
    assert len(seen) == 1


@pytest.mark.parametrize('label_size', [(7, 9), (4, 9), (5, 12), (9, 5)])  # larger, smaller, turned
@pytest.mark.parametrize('name', ['gt_sem_seg', 'gt_instance_map', 'gt_edge_map', 'gt_depth_map'])
def test_a_map_of_another_size_than_its_image_stops_the_training(name, label_size):
    batch = mmseg_batch([(5, 9)])
    delattr(batch['data_samples'][0], name)
    batch['data_samples'][0].set_field(PixelData(data=torch.zeros(1, *label_size)), name, dtype=PixelData)
    message = rf'{name} .*\(5, 9\) pixels \(height, width\), got \({label_size[0]}, {label_size[1]}\): a transform .*seg_fields'
    with pytest.raises(ValueError, match=message):
        build(pad_size_divisor=8)(batch, training=True)


@pytest.mark.parametrize('channels_last', [False, True])
def test_order_in_memory(channels_last):
    batch = make_batch([(6, 8), (6, 8)])
    inputs = build(channels_last=channels_last)(batch)['inputs']
    assert inputs.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert inputs.is_contiguous() != channels_last
    assert torch.equal(inputs, torch.stack(make_batch([(6, 8), (6, 8)])['inputs']).float())
