"""InstanceInferencer: every kind of model and of input, batches, and the files of a training."""

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from golden import small
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg_configs import needs_mmsegs_configs
from pycocotools import mask as coco_mask

from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.apis import example_image, init_model, list_images, segment_image
from mmseg_instancenet.apis.model_files import config_and_checkpoint
from mmseg_instancenet.engine import mixed_precision
from mmseg_instancenet.visualization import pixels_for_display

CONFIGS = Path(__file__).parents[2] / 'configs'
KINDS = {
    'center grouping': 'instancenet_digits',
    'mean shift in the network': 'recurrent-embedding_digits',
    'proposals': 'recurrent-embedding_proposals_digits',
    'U-Net': 'instancenet_unet_dsb2018',
    'DeepLabV3+ of the paper': 'instancenet_r50_coco',
    'VOC': 'recurrent-embedding_r50_voc2012',
    'four lines': 'instancenet_digits_segformer',
}


def write_model(name: str, folder: Path) -> tuple[Path, Path]:
    """Config and checkpoint of a narrow, untrained network whose first weights are those of seed 0."""
    config = small(Config.fromfile(CONFIGS / f'{name}.py'), folder)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    torch.nn.init.constant_(model.decode_head.conv_seg.bias[:1], -5)  # few pixels of background
    count = model.num_classes - 1 if model.background else model.num_classes
    meta = {'dataset_meta': {'classes': tuple(f'class {k}' for k in range(count)), 'palette': [(0, 0, 0)] * count}}
    paths = folder / f'{name}.py', folder / 'weights.pth'
    config.dump(paths[0])
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, paths[1])
    return paths


def draw(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    'kind', [pytest.param(k, marks=needs_mmsegs_configs) if k == 'four lines' else k for k in KINDS]
)
def test_every_kind_of_model(kind, tmp_path):
    """The arrays are those of the data sample, for a file and for an array."""
    config, checkpoint = write_model(KINDS[kind], tmp_path)
    inferencer = InstanceInferencer(config, checkpoint, device='cpu')
    image = draw(96, 128)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    result = inferencer(tmp_path / 'image.png')
    sample = segment_image(init_model(str(config), str(checkpoint), device='cpu'), image)
    assert len(result) > 0 and result.path == str(tmp_path / 'image.png')
    assert np.array_equal(result.labels, sample.pred_instance_map.data[0].numpy())
    assert result.labels.shape == (96, 128) and result.labels.dtype == np.int32
    instances = sample.pred_instances
    assert np.array_equal(result.scores, instances.scores.numpy()) and list(result.masks) == list(instances.masks)
    assert np.array_equal(result.boxes, instances.bboxes.numpy())
    assert result.classes == [f'class {label}' for label in instances.labels]
    of_array = inferencer(image)
    assert of_array.path is None and np.array_equal(of_array.labels, result.labels)


@pytest.fixture(scope='module')
def nuclei():
    return InstanceInferencer('nuclei', device='cpu')


@pytest.fixture
def images(tmp_path):
    """Three nuclei images of two sizes, a file that is no image, and one that is not to be read."""
    whole = cv2.imread(str(example_image()))
    for name, part in (('a.png', whole[:96, :64]), ('b.tif', whole[100:196, 50:114]), ('c.png', whole[:64, :96])):
        cv2.imwrite(str(tmp_path / name), part)
    (tmp_path / 'notes.txt').write_text('no image')
    return tmp_path


def test_folder_pattern_list_and_file(nuclei, images):
    one_by_one = [nuclei(images / name) for name in ('a.png', 'b.tif', 'c.png')]
    assert [len(result) for result in one_by_one] == [len(np.unique(r.labels[r.labels > 0])) for r in one_by_one]
    assert sum(map(len, one_by_one)) > 6
    for several in (images, str(images / '*.[pt][ni][gf]'), [str(images / '*.png'), images / 'b.tif']):
        results = nuclei(several)
        by_path = {result.path: result for result in results}
        assert sorted(by_path) == [str(images / name) for name in ('a.png', 'b.tif', 'c.png')]
        for expected in one_by_one:
            assert np.array_equal(by_path[expected.path].labels, expected.labels)
    assert [result.path for result in nuclei(images)] == sorted(map(str, images.glob('*.[pt][ni][gf]')))
    (from_list,) = nuclei([images / 'a.png'])
    assert np.array_equal(from_list.labels, one_by_one[0].labels)


@pytest.mark.parametrize('batch_size', [2, 8])
def test_batches_change_nothing(nuclei, images, monkeypatch, batch_size):
    sizes = []
    test_step = nuclei.model.test_step
    expected = nuclei(images)
    monkeypatch.setattr(nuclei.model, 'test_step', lambda data: sizes.append(len(data['inputs'])) or test_step(data))
    for result, other in zip(nuclei(images, batch_size=batch_size), expected, strict=True):
        assert result.path == other.path and np.array_equal(result.labels, other.labels)
        np.testing.assert_allclose(result.scores, other.scores, atol=1e-5)
    assert sizes == [2, 1], 'images of one size go together, others do not'


def test_mixed_precision_is_for_the_network_alone(nuclei, monkeypatch):
    exact = nuclei(example_image())
    monkeypatch.setattr(mixed_precision, 'cpu_has_bfloat16', lambda: True)  # a CPU without emulates it
    mixed = InstanceInferencer('nuclei', device='cpu', amp=True)
    seen = {}
    conv_seg, group_map = mixed.model.decode_head.conv_seg, mixed.model.grouper.group_map
    conv_seg.register_forward_hook(lambda *call: seen.update(scores=call[2].dtype))

    def grouping(embeddings_Dhw, region_hw):
        seen.update(embeddings=embeddings_Dhw.dtype, autocast=torch.is_autocast_cpu_enabled())
        return group_map(embeddings_Dhw, region_hw)

    monkeypatch.setattr(mixed.model.grouper, 'group_map', grouping)
    result = mixed(example_image())
    assert seen == {'scores': torch.bfloat16, 'embeddings': torch.float32, 'autocast': False}
    assert not np.array_equal(result.scores, exact.scores)
    assert len(result) == len(exact) == 52
    matched = [np.isin(exact.labels, number) & (result.labels > 0) for number in range(1, 53)]
    shares = [np.bincount(result.labels[mask]).max() / (exact.labels == k + 1).sum() for k, mask in enumerate(matched)]
    assert min(shares) > 0.8 and np.mean(shares) > 0.97


def test_an_image_that_cannot_be_read(nuclei, images):
    (images / 'b.tif').write_bytes(b'no image')
    with pytest.raises(ValueError, match='b.tif: expected an image'):
        nuclei(images)
    failed = []
    stream = nuclei.stream(list_images(images), on_error=lambda image, error: failed.append((image, str(error))))
    assert [Path(result.path).name for result in stream] == ['a.png', 'c.png']
    ((path, message),) = failed
    assert path == str(images / 'b.tif') and message.startswith(f'{path}: expected an image')


def test_settings_in_place_of_the_configs(images):
    options = {'model.test_cfg.score_thr': 0.99999}
    assert len(InstanceInferencer('nuclei', device='cpu', cfg_options=options)(images / 'a.png')) == 0


@pytest.mark.parametrize(
    ('named', 'message'),
    [
        ('none.png', 'none.png: expected an image, got no such file'),
        ('*.jpg', r'\*.jpg: expected files that match the pattern, got none'),
        ('empty', r"empty: expected image files in the folder .*for images in subfolders give a pattern, '.*\*\*"),
    ],
)
def test_images_that_are_not_there(nuclei, tmp_path, named, message):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=message):
        nuclei(tmp_path / named)


def test_a_link_whose_file_is_gone_is_named(nuclei, images):
    for name in ('gone.png', 'gone.txt'):
        (images / name).symlink_to(images / f'nowhere_{name}')
    (images / 'folder.png').mkdir()
    (images / 'linked.png').symlink_to(images / 'folder.png')  # of a folder, which is not listed either
    for listed in (list_images(images), list_images(images / '*.png')):
        assert [Path(path).name for path in listed if path.endswith('.png')] == ['a.png', 'c.png', 'gone.png']
    with pytest.raises(FileNotFoundError, match='gone.png'):
        nuclei(images)


def test_a_model_without_weights_is_refused(tmp_path):
    config, _ = write_model('instancenet_digits', tmp_path)
    with pytest.raises(ValueError, match='expected weights for .*digits.py, got none'):
        InstanceInferencer(config)


def test_a_model_of_boundaries_is_refused(tmp_path):
    config = small(Config.fromfile(CONFIGS / 'recurrent-embedding_r50_bsds500.py'), tmp_path)
    config.dump(tmp_path / 'boundaries.py')
    torch.save({'state_dict': {}, 'meta': {}}, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match='expected a model that finds objects, got one that finds boundaries'):
        InstanceInferencer(tmp_path / 'boundaries.py', tmp_path / 'weights.pth', device='cpu')


# The folder of a training


def touch(path: Path, age: int) -> None:
    path.write_bytes(b'')
    os.utime(path, (1e9 - age, 1e9 - age))


def test_the_checkpoint_of_a_training(tmp_path):
    config = tmp_path / 'my_config.py'
    with pytest.raises(FileNotFoundError, match='with one config file, got none'):
        config_and_checkpoint(tmp_path)
    config.write_text('')
    with pytest.raises(FileNotFoundError, match=r'expected a checkpoint \(\*.pth\) in the folder'):
        config_and_checkpoint(tmp_path)
    # Files that were copied all at once have no order in time.
    for name in ('epoch_9.pth', 'epoch_10.pth'):
        touch(tmp_path / name, age=0)
    touch(tmp_path / 'epoch_2.pth', age=-1)
    assert config_and_checkpoint(str(tmp_path)) == (str(config), str(tmp_path / 'epoch_2.pth'))
    (tmp_path / 'last_checkpoint').write_text('/of/another/machine/epoch_10.pth')
    assert config_and_checkpoint(str(tmp_path)) == (str(config), str(tmp_path / 'epoch_10.pth'))
    touch(tmp_path / 'best_coco_segm_mAP_epoch_2.pth', age=5)
    touch(tmp_path / 'best_coco_segm_mAP_epoch_4.pth', age=4)
    assert config_and_checkpoint(tmp_path)[1] == str(tmp_path / 'best_coco_segm_mAP_epoch_4.pth')
    assert config_and_checkpoint(tmp_path, 'other.pth') == (str(config), 'other.pth')
    (tmp_path / 'second.py').write_text('')
    with pytest.raises(FileNotFoundError, match=re.escape('got my_config.py, second.py; name the config')):
        config_and_checkpoint(tmp_path)


def test_a_training_by_its_folder(tmp_path):
    config, checkpoint = write_model('instancenet_digits', tmp_path)
    image = draw(96, 128)
    by_folder = InstanceInferencer(tmp_path, device='cpu')
    assert by_folder.checkpoint == str(checkpoint)
    assert np.array_equal(by_folder(image).labels, InstanceInferencer(config, checkpoint, device='cpu')(image).labels)


# Tiles


def test_an_image_in_tiles(nuclei, tmp_path):
    """Nearly all nuclei of the image, whether it is a file that is read by parts or an array."""
    image = cv2.imread(str(example_image()))
    whole = nuclei(image)
    tifffile.imwrite(tmp_path / 'image.tif', image[..., ::-1], tile=(64, 64), photometric='rgb')
    of_file, of_array = nuclei(tmp_path / 'image.tif', tile=224), nuclei(image, tile=224)
    assert np.array_equal(of_file.labels, of_array.labels)
    assert of_file.path == str(tmp_path / 'image.tif') and of_file.class_names == ('nucleus',)
    iou_KK = coco_mask.iou(list(whole.masks), list(of_array.masks), [0] * len(of_array))
    assert (iou_KK.max(axis=1) > 0.9).mean() > 0.9 and abs(len(of_array) - len(whole)) <= 3
    in_one_tile = nuclei(image, tile=256)
    assert np.array_equal(in_one_tile.labels, whole.labels) and np.array_equal(in_one_tile.scores, whole.scores)


def test_tiles_of_a_model_that_resizes_its_images_are_refused(tmp_path):
    config, checkpoint = write_model('instancenet_r50_coco', tmp_path)
    inferencer = InstanceInferencer(config, checkpoint, device='cpu')
    with pytest.raises(ValueError, match='treat a tile as they treat the whole image, got ResizeLongerSide'):
        inferencer(draw(240, 240), tile=224)
    failed = []
    assert list(inferencer.stream([draw(240, 240)], tile=224, on_error=lambda image, error: failed.append(error))) == []
    assert len(failed) == 1


def test_a_contrast_after_other_steps_is_refused_in_tiles(nuclei, monkeypatch):
    monkeypatch.setattr(nuclei.pipeline, 'others', [lambda results: results, *nuclei.pipeline.others])
    with pytest.raises(ValueError, match='expected NormalizePercentiles as the first step after the loading'):
        nuclei(cv2.imread(str(example_image())), tile=224)


# Drawings


def test_drawings_of_files_and_arrays(nuclei, images):
    """Pixels without an object are those of the image, in red, green and blue; objects have a colour of their own."""
    image = cv2.imread(str(images / 'a.png'))
    image[..., 2] //= 2  # so that red and blue differ
    cv2.imwrite(str(images / 'a.png'), image)
    result = nuclei(image)
    of_file, of_array = nuclei.visualize([str(images / 'a.png'), image], [result, result])
    assert np.array_equal(of_file, of_array)
    background_HW = result.labels == 0
    assert np.array_equal(of_file[background_HW], pixels_for_display(image[..., ::-1])[background_HW])
    assert (of_file[~background_HW] != pixels_for_display(image[..., ::-1])[~background_HW]).any(axis=1).mean() > 0.9
