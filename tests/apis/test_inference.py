"""Inference from Python: from an image to a prediction."""

from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmseg.registry import TRANSFORMS

from mmseg_instancenet.apis import init_model, segment_image
from mmseg_instancenet.datasets import MasksToMaps
from mmseg_instancenet.models import BoundarySegmentor, EmbeddingSegmentor
from mmseg_instancenet.structures import normalize_percentiles

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='module')
def boundary_model() -> BoundarySegmentor:
    """The model of the config, narrow and untrained."""
    config = Config.fromfile(CONFIGS / 'recurrent-embedding_r50_bsds500.py')
    config.model.backbone.update(init_cfg=None, base_channels=4, stem_channels=4)
    config.model.decode_head.in_channels = (16, 32, 64, 128)
    torch.manual_seed(0)
    return init_model(config, device='cpu')


def test_boundaries_of_an_array_and_of_a_file(boundary_model, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 61, 3)).astype(np.uint8)
    result = segment_image(boundary_model, image)
    boundary = result.pred_boundary.data
    assert boundary.shape == (1, 40, 61) and 0 <= boundary.min() < boundary.max() <= 1
    assert 'gt_boundaries' not in result
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    from_file = segment_image(boundary_model, tmp_path / 'image.png')
    assert from_file.pred_boundary.data.equal(boundary) and from_file.img_path == str(tmp_path / 'image.png')


@pytest.mark.parametrize(
    'name', ['recurrent-embedding_r50_bsds500', 'instancenet_r50_coco', 'recurrent-embedding_r50_voc2012']
)
def test_steps_of_all_pipelines_run_on_an_image_without_annotations(name, boundary_model, monkeypatch):
    """The steps of all pipelines of the config run on an image alone; the model is another's."""
    config = Config.fromfile(CONFIGS / f'{name}.py')
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    for pipeline in (config.train_pipeline, config.test_pipeline):
        deterministic = [step for step in pipeline if 'Random' not in step.type]
        monkeypatch.setitem(boundary_model.cfg.test_dataloader.dataset, 'pipeline', deterministic)
        assert segment_image(boundary_model, image).pred_boundary.data.shape == (1, 64, 96)


# Pipelines with NormalizePercentiles


def make_model(channels: int = 3, load: dict | None = None, normalized: bool = True) -> EmbeddingSegmentor:
    """The model of the digits, narrow and untrained, for images of any depth."""
    config = Config.fromfile(CONFIGS / 'instancenet_digits.py')
    config.model.backbone.update(base_channels=2, in_channels=channels)
    config.model.decode_head.update(in_channels=2, channels=4)
    mean, std = [10.0] * channels, [2.0] * channels
    config.model.data_preprocessor.update(mean=mean, std=std, bgr_to_rgb=False)
    if normalized:
        config.model.data_preprocessor.update(mean=None, std=None)
    load = {'type': 'LoadImageFromFile', **(load or {})}
    masks = {'type': 'mmdet.LoadAnnotations', 'with_bbox': True, 'with_mask': True}
    others = [{'type': 'NormalizePercentiles', 'low': 2, 'high': 98}] * normalized
    config.test_dataloader.dataset.pipeline = [
        load,
        *others,
        masks,
        {'type': 'MasksToMaps'},
        {'type': 'PackInstanceMaps'},
    ]
    torch.manual_seed(0)
    return init_model(config, device='cpu')


def entering(model: EmbeddingSegmentor, image, monkeypatch) -> np.ndarray:
    """The output of the pipeline for an image, (H, W, C)."""
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(model, 'test_step', lambda data: [seen.append(data['inputs'][0])])
        segment_image(model, image)
    return seen[0].numpy().transpose(1, 2, 0)


def draw(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    low, high = {'uint8': (5, 90), 'uint16': (1000, 1400), 'int32': (-(10**6), 10**6), 'int64': (0, 50)}.get(
        dtype, (-1, 3)
    )
    return (rng.uniform(low, high, shape)).astype(dtype)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int32', 'int64', 'float16', 'float32', 'float64'])
def test_array_of_any_type(dtype, monkeypatch):
    image = draw(dtype, (24, 31, 3))
    found = entering(make_model(), image, monkeypatch)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, normalize_percentiles(image, 2, 98))
    assert 0 == found.min() < found.max() == 1


@pytest.mark.parametrize('channels', [1, 3, 5])
@pytest.mark.parametrize('shape', [(24, 31), (24, 31, 1)])
def test_grey_array_is_repeated_for_each_channel_of_the_network(channels, shape, monkeypatch):
    image = draw('uint16', shape)
    found = entering(make_model(channels), image, monkeypatch)
    expected = normalize_percentiles(np.stack([image.reshape(24, 31)] * channels, axis=2), 2, 98)
    np.testing.assert_array_equal(found, expected)


def test_result_at_the_size_of_the_image_and_independent_of_a_linear_change():
    model = make_model(5)
    image = draw('uint16', (24, 31, 5))
    result = segment_image(model, image)
    assert result.pred_instance_map.data.shape == (1, 24, 31) and result.ori_shape == (24, 31)
    assert result.img_path is None
    changed = segment_image(model, image.astype(np.int32) * 1000 - 7)
    torch.testing.assert_close(changed.pred_embeddings.data, result.pred_embeddings.data, rtol=1e-4, atol=1e-4)
    assert result.pred_embeddings.data.std() > 1e-4
    other = segment_image(model, image[::-1])
    assert (other.pred_embeddings.data - result.pred_embeddings.data).abs().max() > 1e-3


@pytest.mark.parametrize(
    'image, expected, got',
    [
        (np.zeros((4, 5, 4), np.uint8), r'\(H, W, 3\)', r'\(4, 5, 4\) uint8: choose or convert the channels'),
        (np.zeros((4, 5, 2)), r'\(H, W, 3\)', r'\(4, 5, 2\) float64'),
        (np.zeros((4, 5, 3), bool), 'integers or floating point', r'\(4, 5, 3\) bool'),
        (np.zeros((4, 5, 3), complex), 'integers or floating point', r'\(4, 5, 3\) complex128'),
        (np.zeros(5), r'\(H, W\) grey', r'\(5,\) float64'),
        (np.zeros((1, 4, 5, 3)), r'\(H, W, 3\)', r'\(1, 4, 5, 3\) float64'),
    ],
)
def test_array_that_does_not_fit(image, expected, got):
    with pytest.raises(ValueError, match=f'image: expected .*{expected}.*got {got}'):
        segment_image(make_model(), image)


def test_colour_does_not_fit_a_network_of_one_channel(tmp_path):
    path = tmp_path / 'colour.png'
    cv2.imwrite(str(path), draw('uint8', (4, 5, 3)))
    with pytest.raises(ValueError, match=r'colour.png: expected .*\(H, W, 1\).*got \(4, 5, 3\) uint8'):
        segment_image(make_model(1), path)


def test_nan_names_the_file(tmp_path):
    image = draw('float32', (4, 5))
    image[1, 2] = np.nan
    with pytest.raises(ValueError, match='^image: expected finite pixels'):
        segment_image(make_model(), image)
    path = tmp_path / 'float.tif'
    cv2.imwrite(str(path), image)
    with pytest.raises(ValueError, match='float.tif: expected finite pixels'):
        segment_image(make_model(load={'color_type': 'unchanged'}), path)


@pytest.mark.parametrize('extension', ['png', 'tif'])
@pytest.mark.parametrize('shape', [(24, 31), (24, 31, 3)])
@pytest.mark.parametrize(
    'load', [{'color_type': 'unchanged'}, {'color_type': 3}, {'color_type': 3, 'to_float32': True}]
)
def test_file_of_sixteen_bits_keeps_them(load, shape, extension, tmp_path, monkeypatch):
    """In eight bits, values from 1000 to 1400 would become two greys."""
    image = draw('uint16', shape)
    path = tmp_path / f'image.{extension}'
    cv2.imwrite(str(path), image)
    bgr = image if image.ndim == 3 else np.stack([image] * 3, axis=2)
    found = entering(make_model(load=load), path, monkeypatch)
    np.testing.assert_array_equal(found, normalize_percentiles(bgr, 2, 98))
    assert len(np.unique(found)) > 200
    np.testing.assert_array_equal(found, entering(make_model(), image, monkeypatch))


def test_settings_of_the_first_step_hold(tmp_path, monkeypatch):
    image = draw('uint16', (24, 31))
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    scaled = (image / 5).round()
    found = entering(make_model(load={'max_value': 1275}), tmp_path / 'image.png', monkeypatch)
    np.testing.assert_array_equal(found, normalize_percentiles(np.stack([scaled.clip(0, 255)] * 3, axis=2), 2, 98))
    # A network of one channel.
    for settings in ({'color_type': 'unchanged'}, {'color_type': 'unchanged', 'imdecode_backend': 'pillow'}):
        found = entering(make_model(1, settings), tmp_path / 'image.png', monkeypatch)
        np.testing.assert_array_equal(found[..., 0], normalize_percentiles(image, 2, 98))


def test_file_of_eight_bits_is_unchanged(tmp_path, monkeypatch):
    transparent = draw('uint8', (24, 31, 4))
    cv2.imwrite(str(tmp_path / 'image.png'), transparent)
    found = entering(make_model(), str(tmp_path / 'image.png'), monkeypatch)
    np.testing.assert_array_equal(found, normalize_percentiles(transparent[..., :3], 2, 98))


def test_floating_point_tif_with_unchanged(tmp_path, monkeypatch):
    image = draw('float32', (24, 31))
    cv2.imwrite(str(tmp_path / 'image.tif'), image)
    found = entering(make_model(load={'color_type': 'unchanged'}), tmp_path / 'image.tif', monkeypatch)
    np.testing.assert_array_equal(found, normalize_percentiles(np.stack([image] * 3, axis=2), 2, 98))


@pytest.mark.parametrize('normalized', [False, True])
def test_file_that_is_no_image(normalized, tmp_path):
    (tmp_path / 'text.png').write_text('not an image')
    with pytest.raises(ValueError, match=r'text\.png'):
        segment_image(make_model(normalized=normalized), tmp_path / 'text.png')
    with pytest.raises(FileNotFoundError, match=r'none\.png'):
        segment_image(make_model(normalized=normalized), tmp_path / 'none.png')


def test_without_percentiles_eight_bits(tmp_path, monkeypatch):
    model = make_model(normalized=False)
    for image in (draw('uint16', (4, 5, 3)), draw('float32', (4, 5)), draw('int64', (4, 5, 1))):
        with pytest.raises(
            ValueError, match=r'expected uint8, \(H, W, 3\) for this network or \(H, W\) grey, got \(4, 5'
        ):
            segment_image(model, image)
    with pytest.raises(ValueError, match=r'expected \(H, W, 3\) for this network .* got \(4, 5, 4\) uint8'):
        segment_image(model, draw('uint8', (4, 5, 4)))
    grey = draw('uint8', (24, 31))
    for array in (grey, grey[..., None]):
        np.testing.assert_array_equal(entering(model, array, monkeypatch), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
@pytest.mark.parametrize('shape', [(24, 31), (24, 31, 3)])
def test_a_file_of_more_than_eight_bits_is_never_cut(dtype, shape, tmp_path, monkeypatch):
    """Without NormalizePercentiles it is refused, or scaled by the rule of the config."""
    image, path = draw(dtype, shape), tmp_path / 'image.tif'
    cv2.imwrite(str(path), image)
    with pytest.raises(ValueError, match=rf'image\.tif: expected 8 bits, got {dtype} up to'):
        segment_image(make_model(normalized=False), path)
    top = {'uint16': 2000, 'float32': 3}[dtype]
    found = entering(make_model(normalized=False, load={'max_value': top}), path, monkeypatch)
    expected = (image.reshape(24, 31, -1) * (255 / top)).clip(0, 255)
    np.testing.assert_allclose(found, np.broadcast_to(expected, (24, 31, 3)), atol=0.51)
    assert found.std() > 5


# Networks of other than three channels


@pytest.mark.parametrize('shape', [(24, 31), (24, 31, 3), (24, 31, 4)])
def test_a_grey_network_reads_any_file_as_its_loading_step_does(shape, tmp_path):
    model = make_model(1, {'color_type': 'grayscale'}, normalized=False)
    image, path = draw('uint8', shape), tmp_path / 'image.png'
    cv2.imwrite(str(path), image)
    grey = image if image.ndim == 2 else cv2.cvtColor(image[..., :3].copy(), cv2.COLOR_BGR2GRAY)
    of_file, of_array = segment_image(model, path), segment_image(model, cv2.imread(str(path), 0))
    for key in ('pred_instance_map', 'pred_sem_seg', 'pred_embeddings'):
        assert of_file.get(key).data.equal(of_array.get(key).data)
    assert of_file.pred_sem_seg.data.shape == (1, 24, 31)
    assert np.abs(cv2.imread(str(path), 0).astype(int) - grey).max() <= 1


@pytest.mark.parametrize('channels', [2, 4, 5])
def test_a_network_of_many_channels_reads_a_file_of_them(channels, tmp_path, monkeypatch):
    tifffile = pytest.importorskip('tifffile')
    image, path = draw('uint8', (24, 31, channels)), tmp_path / 'image.tif'
    tifffile.imwrite(path, image, planarconfig='contig', photometric='minisblack')
    model = make_model(channels, {'imdecode_backend': 'tifffile'})
    np.testing.assert_array_equal(entering(model, path, monkeypatch), normalize_percentiles(image, 2, 98))
    with pytest.raises(
        ValueError, match=rf'image\.tif: expected \(H, W, {channels + 1}\).* got \(24, 31, {channels}\)'
    ):
        segment_image(make_model(channels + 1, {'imdecode_backend': 'tifffile'}), path)


# The pipeline of the config, whatever its steps and wrappers


class OwnMasks(MasksToMaps):
    """A user's, derived from ours."""


class OwnLoader(BaseTransform):
    """A user's, which reads a map that the data set names."""

    def transform(self, results: dict) -> dict:
        results['gt_seg_map'] = mmcv.imread(results['own_map_path'])
        return results


class OwnEmptyTruth(BaseTransform):
    """A user's, which makes a truth of no annotations."""

    def transform(self, results: dict) -> dict:
        results['gt_seg_map'] = np.zeros(results['img_shape'], np.float32)
        results['seg_fields'].append('gt_seg_map')
        return results


class OwnBlue(BaseTransform):
    """A user's, which leaves one channel of the image."""

    def transform(self, results: dict) -> dict:
        results['img'] = results['img'][..., :1]
        return results


@pytest.fixture
def own_steps(monkeypatch):
    modules = {step.__name__: step for step in (OwnMasks, OwnLoader, OwnEmptyTruth, OwnBlue)}
    monkeypatch.setattr(TRANSFORMS, '_module_dict', {**TRANSFORMS._module_dict, **modules})


MMDET_MASKS = {'type': 'mmdet.LoadAnnotations', 'with_bbox': True, 'with_mask': True}
ANNOTATIONS = {
    'mmdet': [MMDET_MASKS, {'type': 'mmdet.FilterAnnotations'}, {'type': 'MasksToMaps'}],
    'mmseg': [{'type': 'LoadAnnotations'}, {'type': 'LoadInstanceIds', 'rule': 'cityscapes'}],
    'ade20k': [{'type': 'LoadAnnotations', 'reduce_zero_label': True}, {'type': 'LoadInstanceIds', 'rule': 'labels'}],
    'boundaries': [{'type': 'LoadBSDSBoundaries'}, {'type': 'BoundaryConsensus'}, {'type': 'ClassesToInstances'}],
    'panoptic': [{'type': 'mmdet.LoadPanopticAnnotations'}, {'type': 'ClassesToInstances'}],
    'derived': [MMDET_MASKS, {'type': 'OwnMasks'}],
    'empty': [{'type': 'mmdet.LoadEmptyAnnotations', 'with_seg': True}],
    'own empty': [{'type': 'OwnEmptyTruth'}],
}


@pytest.mark.parametrize('kind', ANNOTATIONS)
@pytest.mark.parametrize('place', ['before the resize', 'after the resize'])
def test_steps_of_annotations_are_left_out_and_others_stay(kind, place, own_steps, tmp_path, monkeypatch):
    model, image = make_model(normalized=False), draw('uint8', (24, 31, 3))
    resize = [{'type': 'ResizeLongerSide', 'length': 62}]
    steps = ANNOTATIONS[kind] + resize if place == 'before the resize' else resize + ANNOTATIONS[kind]
    pipeline = [{'type': 'LoadImageFromFile'}, *steps, {'type': 'PackInstanceMaps'}]
    monkeypatch.setitem(model.cfg.test_dataloader.dataset, 'pipeline', pipeline)
    expected = cv2.resize(image, (62, 48), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(entering(model, image, monkeypatch), expected)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    np.testing.assert_array_equal(entering(model, tmp_path / 'image.png', monkeypatch), expected)
    result = segment_image(model, image)
    assert not any(key.startswith('gt_') for key in result.to_dict())
    assert result.pred_sem_seg.data.shape == (1, 24, 31)


def test_a_step_that_needs_annotations_is_left_out_with_a_warning(own_steps, monkeypatch):
    model, image = make_model(normalized=False), draw('uint8', (24, 31, 3))
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'OwnLoader'}, {'type': 'PackInstanceMaps'}]
    monkeypatch.setitem(model.cfg.test_dataloader.dataset, 'pipeline', pipeline)
    with pytest.warns(UserWarning, match="OwnLoader of the test pipeline is left out: it needs 'own_map_path'"):
        np.testing.assert_array_equal(entering(model, image, monkeypatch), image)


def test_a_step_may_change_the_channels(own_steps, tmp_path, monkeypatch):
    model, image = make_model(1, normalized=False), draw('uint8', (24, 31, 3))
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'OwnBlue'}, {'type': 'PackInstanceMaps'}]
    monkeypatch.setitem(model.cfg.test_dataloader.dataset, 'pipeline', pipeline)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    for given in (image, tmp_path / 'image.png'):
        np.testing.assert_array_equal(entering(model, given, monkeypatch), image[..., :1])


@pytest.mark.parametrize(
    'wrap',
    [
        lambda images: {'type': 'RepeatDataset', 'times': 2, 'dataset': images},
        lambda images: {'type': 'ConcatDataset', 'datasets': [images, {'type': 'other', 'pipeline': []}]},
        lambda images: {'type': 'RepeatDataset', 'dataset': {'type': 'ConcatDataset', 'datasets': [images]}},
        lambda images: {'type': 'ConcatDataset', 'datasets': [{'type': 'RepeatDataset', 'dataset': images}]},
    ],
)
def test_a_wrapped_data_set(wrap, monkeypatch):
    model, image = make_model(), draw('uint16', (24, 31, 3))
    expected = segment_image(model, image).pred_embeddings.data
    monkeypatch.setitem(model.cfg.test_dataloader, 'dataset', wrap(model.cfg.test_dataloader.dataset))
    assert segment_image(model, image).pred_embeddings.data.equal(expected)


@pytest.mark.parametrize('name', ['recurrent-embedding_efficientnet-lite0_bsds500', 'recurrent-embedding_r50_bsds500'])
def test_the_test_pipelines_of_the_boundary_models(name, boundary_model, tmp_path, monkeypatch):
    """The model is narrow; the loading step and the others are those of the config."""
    test_set = Config.fromfile(CONFIGS / f'{name}.py').test_dataloader.dataset
    monkeypatch.setitem(boundary_model.cfg.test_dataloader, 'dataset', test_set)
    image = draw('uint8', (24, 31, 3))
    np.testing.assert_array_equal(entering(boundary_model, image, monkeypatch), image)
    for shape in ((24, 31), (33, 20, 3), (8, 9, 4)):
        cv2.imwrite(str(tmp_path / 'image.png'), draw('uint8', shape))
        boundary = segment_image(boundary_model, tmp_path / 'image.png').pred_boundary.data
        assert boundary.shape == (1, *shape[:2]) and 0 <= boundary.min() <= boundary.max() <= 1
