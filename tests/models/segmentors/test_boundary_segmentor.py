"""Boundary detection as a whole: predictions at the image's size, the two phases, real images."""

import copy
import shutil

import mmcv
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from torch import nn

from mmseg_instancenet.engine import load_weights_only, register_safe_loaders
from mmseg_instancenet.models.postprocess.non_maxima import suppress_non_maxima
from mmseg_instancenet.visualization import draw_panel

HEAD = {
    'type': 'BoundaryHead',
    'in_channels': (8, 16, 32, 64),
    'in_index': (0, 1, 2, 3),
    'loss_embedding': {'type': 'SphericalPairLoss', 'variant': 'released', 'sample_ratio': 0.5},
}
BACKBONE = {
    'type': 'ResNet',
    'depth': 18,
    'base_channels': 8,
    'stem_channels': 8,
    'dilations': (1, 1, 2, 4),
    'strides': (1, 2, 1, 1),
    'norm_cfg': {'type': 'BN'},
}


def config(**settings):
    preprocessor = {'type': 'InstanceMapDataPreprocessor', 'mean': [128] * 3, 'std': [64] * 3, 'pad_size_divisor': 8}
    model = {'type': 'BoundarySegmentor', 'data_preprocessor': preprocessor, 'backbone': BACKBONE, 'decode_head': HEAD}
    return copy.deepcopy({**model, **settings})


def build(**settings):
    torch.manual_seed(0)
    model = MODELS.build(config(**settings))
    model.init_weights()
    return model


def known_network(**test_cfg):
    """Its one stage's embedding is the input itself; the fusion layer has random weights."""
    head = {'type': 'BoundaryHead', 'in_channels': (3,), 'in_index': (0,)}
    model = build(decode_head=head, test_cfg=test_cfg).eval()
    model.extract_feat = lambda inputs: [inputs]
    convolution, fusion = model.decode_head.conv_embedding[0], model.decode_head.conv_seg
    nn.init.dirac_(convolution.weight)
    nn.init.normal_(fusion.weight, std=2)
    return model


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e30])
def test_outputs_of_the_network_that_are_not_finite_name_the_image(value):
    model = known_network()
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    inputs[1, :, 2, 2] = value
    samples = [DetDataSample(metainfo=dict(ori_shape=(8, 8), img_shape=(8, 8), img_path=name)) for name in ('a', 'bad')]
    with pytest.raises(ValueError, match=r'finite probabilities of a boundary, got .*\(image bad\)'):
        model.predict(inputs, samples)


def boundary_by_hand(model, map_3hw, size, image_size):
    """Probability at each pixel of the image: bilinear, unit length, fused, sigmoid. Nothing is read beyond the image."""
    map_3hw = map_3hw.double().numpy()[:, : image_size[0], : image_size[1]]
    weight = model.decode_head.conv_seg.weight[0, :, 0, 0].detach().double().numpy()
    bias = model.decode_head.conv_seg.bias.item()
    result = np.zeros(size)
    for row in range(size[0]):
        for column in range(size[1]):
            position = [(p + 0.5) * n / m - 0.5 for p, m, n in zip((row, column), size, image_size, strict=True)]
            position = [min(max(p, 0), n - 1) for p, n in zip(position, image_size, strict=True)]
            low = [min(int(p), n - 2) for p, n in zip(position, image_size, strict=True)]
            x = np.zeros(3)
            for i in (0, 1):
                for j in (0, 1):
                    share = (1 - abs(position[0] - low[0] - i)) * (1 - abs(position[1] - low[1] - j))
                    x += share * map_3hw[:, low[0] + i, low[1] + j]
            result[row, column] = 1 / (1 + np.exp(-bias - weight @ x / np.sqrt(x @ x)))
    return result


def sample(size, image_size=None, **meta):
    return DetDataSample(metainfo={'ori_shape': size, 'img_shape': image_size or size, **meta})


def test_smoke():
    model = build().eval()
    (result,) = model.predict(torch.randn(1, 3, 32, 48))
    assert result.pred_boundary.data.shape == (1, 32, 48)
    assert result.pred_embeddings.data.shape == (12, 32, 48)
    assert result.pred_embeddings.embedding_dims == 3
    lengths = result.pred_embeddings.data.unflatten(0, (4, 3)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_mode_tensor_is_the_whole_network():
    """The logit of the boundary that is predicted, at the size of the input."""
    model, image = known_network(non_maximum_suppression=False), torch.randn(2, 3, 12, 16)
    logit_N1HW = model(image, mode='tensor')
    assert logit_N1HW.shape == (2, 1, 12, 16)
    for logit_1HW, result in zip(logit_N1HW, model.predict(image), strict=True):
        torch.testing.assert_close(logit_1HW.sigmoid(), result.pred_boundary.data)


def test_errors():
    with pytest.raises(TypeError, match='expected a BoundaryHead as decode_head, got FCNHead'):
        build(decode_head={'type': 'FCNHead', 'in_channels': 64, 'channels': 4, 'num_classes': 2, 'in_index': 3})
    with pytest.raises(ValueError, match=r"non_maximum_suppression at most, got \['mode'\] as well"):
        build(test_cfg={'mode': 'slide'})


def test_a_batch_of_unequal_images_at_their_original_sizes():
    """One at its own size, one shrunk, one enlarged and flipped; all padded to one size."""
    model = known_network(non_maximum_suppression=False)
    inputs = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    sizes, image_sizes = [(13, 20), (30, 21), (8, 12)], [(13, 20), (16, 11), (16, 24)]
    samples = [sample(*pair) for pair in zip(sizes, image_sizes, strict=True)]
    samples[2].set_metainfo({'flip': True, 'flip_direction': 'horizontal'})
    results = model.predict(inputs, samples)
    for index, (result, size, image_size) in enumerate(zip(results, sizes, image_sizes, strict=True)):
        expected = boundary_by_hand(model, inputs[index], size, image_size)
        expected = expected[:, ::-1] if index == 2 else expected
        np.testing.assert_allclose(result.pred_boundary.data[0].detach(), expected, atol=2e-5)
        assert result is samples[index]


def test_non_maximum_suppression_is_the_default_and_can_be_switched_off():
    plain, thinned = known_network(non_maximum_suppression=False), known_network()
    inputs = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        probability = plain.predict(inputs)[0].pred_boundary.data[0]
        result = thinned.predict(inputs)[0].pred_boundary.data[0]
    assert torch.equal(result, suppress_non_maxima(probability))
    assert (result == 0).any()


def test_the_padding_of_a_batch_changes_no_image():
    model = build(test_cfg={'non_maximum_suppression': False}).eval()
    images = [torch.randint(256, size, dtype=torch.uint8) for size in ((3, 32, 32), (3, 32, 56))]

    def test(chosen):
        data = {
            'inputs': [images[k] for k in chosen],
            'data_samples': [sample(images[k].shape[1:]) for k in chosen],
        }
        return model.test_step(data)

    together = test([0, 1])
    assert [tuple(x.pred_boundary.data.shape) for x in together] == [(1, 32, 32), (1, 32, 56)]
    torch.testing.assert_close(together[1].pred_boundary.data, test([1])[0].pred_boundary.data)


def test_gradient_reaches_every_stage_in_both_phases():
    for fused in (False, True):
        model = build()
        model.decode_head.set_phase('fusion' if fused else 'embedding')
        model.decode_head.conv_seg.requires_grad_(fused)
        data_sample = sample((32, 48))
        label = torch.zeros(1, 32, 48, dtype=torch.long)
        label[:, 10] = 1
        data_sample.gt_sem_seg, data_sample.gt_instance_map = PixelData(data=label), PixelData(data=label)
        losses = model.loss(torch.randn(1, 3, 32, 48), [data_sample])
        total, log = model.parse_losses(losses)
        assert set(log) - {'loss'} == set(losses)
        assert ('decode.loss_logistic' in log) == fused
        total.backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
        for part in ('conv1', 'layer1', 'layer2', 'layer3', 'layer4'):
            gradients = [p.grad.abs().max() for p in model.backbone.get_submodule(part).parameters()]
            assert max(gradients) > 0, part
        for convolution in model.decode_head.conv_embedding:
            assert convolution.weight.grad.any()


@pytest.fixture(autouse=True)
def safe_loaders(monkeypatch):
    """Replaces MMEngine's loaders by ours for one test."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    register_safe_loaders()


@pytest.fixture(scope='module')
def small_bsds(test_data, tmp_path_factory):
    """Three images to train on and two to test on, in BSDS500's layout."""
    folder = tmp_path_factory.mktemp('bsds')
    for split, target, count in (('train', 'train', 3), ('val', 'test', 2)):
        for image in sorted((test_data / 'bsds500' / 'images' / split).glob('*.jpg'))[:count]:
            for kind, suffix in (('images', '.jpg'), ('groundTruth', '.mat')):
                place = folder / kind / target
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(test_data / 'bsds500' / kind / split / f'{image.stem}{suffix}', place)
    return folder


def make_runner(folder, work_dir, until, max_epochs, resume=False):
    bsds = Config.fromfile('configs/_base_/datasets/bsds500.py')
    crop = {'type': 'RandomCrop', 'crop_size': (64, 96)}
    pipeline = [step for step in bsds.train_pipeline if step.type not in ('RandomResize', 'RandomRotateMaps')]
    pipeline = [*pipeline[:3], crop, *pipeline[3:]]
    loader = {
        'batch_size': 1,
        'num_workers': 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        'dataset': {**bsds.train_dataloader.dataset, 'data_root': str(folder), 'splits': 'train', 'pipeline': pipeline},
    }
    test_loader = {
        **loader,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'dataset': {**bsds.test_dataloader.dataset, 'data_root': str(folder)},
    }
    return Runner.from_cfg(
        Config(
            {
                'model': config(),
                'work_dir': str(work_dir),
                'train_dataloader': loader,
                'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9}},
                'train_cfg': {'by_epoch': True, 'max_epochs': max_epochs},
                'test_dataloader': test_loader,
                'test_cfg': {},
                'test_evaluator': {'type': 'BoundaryMetric', 'thresholds': 3},
                'default_hooks': {'logger': {'type': 'LoggerHook', 'interval': 1}},
                'custom_hooks': [{'type': 'BoundaryPhaseHook', 'until': until}],
                'randomness': {'seed': 0},
                'resume': resume,
                'default_scope': 'mmseg',
                'log_level': 'WARNING',
                'experiment_name': f'{work_dir.name}_{max_epochs}_{resume}',
            }
        )
    )


def fusion_of(path):
    return load_weights_only(path)['state_dict']['decode_head.conv_seg.weight']


def keys_logged(runner):
    return {key.rsplit('.', 1)[-1] for key in runner.message_hub.log_scalars if '.loss_' in key}


def test_two_phases_in_one_run_stopped_between_them(small_bsds, tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    first = make_runner(small_bsds, tmp_path, until=1, max_epochs=1)
    first.train()
    embedding_losses = {f'loss_embedding_{stage}' for stage in range(4)}
    assert keys_logged(first) == embedding_losses
    second = make_runner(small_bsds, tmp_path, until=1, max_epochs=2, resume=True)
    second.train()
    assert second.epoch == 2
    assert keys_logged(second) == embedding_losses | {'loss_logistic'}  # the first three are in the checkpoint
    assert not fusion_of(tmp_path / 'epoch_2.pth').equal(fusion_of(tmp_path / 'epoch_1.pth'))

    in_one_go = make_runner(small_bsds, tmp_path / 'one_go', until=2, max_epochs=3)
    in_one_go.train()
    fusion = [fusion_of(tmp_path / f'one_go/epoch_{epoch}.pth') for epoch in (1, 2, 3)]
    assert fusion[0].equal(fusion[1])
    assert not fusion[1].equal(fusion[2])
    assert keys_logged(in_one_go) == keys_logged(second)

    metrics = second.test()
    assert {'boundary/ODS', 'boundary/OIS', 'boundary/AP'} < set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())


def test_images(small_bsds, tmp_path):
    path = sorted((small_bsds / 'images/test').glob('*.jpg'))[0]
    size = mmcv.imread(path).shape[:2]
    data_sample = sample(size, img_path=str(path))
    truth = np.zeros((5, *size), bool)
    truth[:2, 10] = True
    data_sample.set_field(PixelData(data=torch.from_numpy(truth)), 'gt_boundaries', dtype=PixelData)
    with torch.no_grad():
        build().eval().predict(torch.randn(1, 3, *size), [data_sample])
    image = draw_panel(mmcv.imread(path)[..., ::-1], data_sample)
    columns = 7  # input, four stages, boundaries, truth
    width = (image.shape[1] - 4 * (columns - 1)) / columns
    assert width == round(size[1] * 256 / size[0])
    right = image[24:, -int(width) :, 0]
    assert right.max() == 255
    # The mean of two of five annotators, shrunk with its surroundings.
    assert 255 * 3 / 5 <= right.min() < 255
