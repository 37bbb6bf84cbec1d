"""VOC and SBD: conversion of their maps, and void without effect on losses and metrics."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import DATASETS, METRICS, MODELS
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import loadmat, savemat

from mmseg_instancenet.datasets import VOCInstanceDataset
from mmseg_instancenet.datasets.voc import (
    CLASSES,
    LabelMaps,
    convert,
    find_sbd,
    find_voc,
    maps_to_annotations,
    read_sbd,
    read_voc,
)
from mmseg_instancenet.models.losses import (
    ClassDiceLoss,
    DiscriminativeLoss,
    SphericalPairLoss,
    WeightedCrossEntropyLoss,
)
from mmseg_instancenet.structures import labels_to_boxes, labels_to_rle

CONFIGS = Path(__file__).parents[2] / 'configs'


def decoded(annotation: dict) -> np.ndarray:
    return coco_mask.decode(annotation['segmentation']).astype(bool)


def plain_maps(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Class map and object map of a sample, void 255 in both."""
    if (folder / 'sbd_mat' / f'{name}.mat').exists():
        content = loadmat(folder / 'sbd_mat' / f'{name}.mat')['gtMat'][0, 0]
        return content['segMap'].astype(int), content['instMap'].astype(int)
    maps = [
        np.array(Image.open(folder / 'voc_layout' / kind / f'{name}.png')).astype(int)
        for kind in ('SegmentationClass', 'SegmentationObject')
    ]
    maps[1][maps[0] == 255] = 255  # the sample's object maps call void 0, the challenge's 255
    return maps[0], maps[1]


# ---------------------------------------------------------------------------------------------------- what is refused


def test_class_unknown_to_voc():
    maps = LabelMaps(np.array([[0, 21, 99, 255]]), np.array([[0, 1, 2, 255]]))
    with pytest.raises(ValueError, match=r'expected classes 0 .. 20 and 255 for void, got \[21, 99\]'):
        maps_to_annotations(maps)


def test_maps_of_two_shapes():
    with pytest.raises(ValueError, match=r'of one shape, got \(2, 3\) and \(3, 2\)'):
        maps_to_annotations(LabelMaps(np.zeros((2, 3), int), np.zeros((3, 2), int)))


def test_colours_in_place_of_labels(tmp_path):
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / 'colours.png')
    with pytest.raises(
        ValueError, match=r'colours.png: expected a PNG with a palette, .* got shape 4 x 5 x 3: colours'
    ):
        read_voc(tmp_path / 'colours.png', tmp_path / 'colours.png')


def test_mat_file_of_something_else(tmp_path):
    savemat(tmp_path / 'x.mat', {'GTcls': {'Segmentation': np.zeros((2, 2), np.uint8)}})
    with pytest.raises(ValueError, match=r"x.mat: expected GTinst .* or gtMat, got \['GTcls'\]"):
        read_sbd(tmp_path / 'x.mat')
    savemat(tmp_path / 'y.mat', {'GTinst': {'Segmentation': np.array([[0, 2]], np.uint8), 'Categories': [[15]]}})
    with pytest.raises(ValueError, match='y.mat: expected a category for each of 2 objects, got 1'):
        read_sbd(tmp_path / 'y.mat')


def test_folders_without_annotations(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'expected .*/SegmentationClass/\*.png, as in VOCdevkit/VOC2012'):
        find_voc(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'expected .*/\*.mat, as in benchmark_RELEASE/dataset'):
        find_sbd(tmp_path)


def write_voc(folder: Path, name: str, classes: np.ndarray, objects: np.ndarray) -> None:
    for kind, values in (('SegmentationClass', classes), ('SegmentationObject', objects)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(values.astype(np.uint8), mode='P')
        image.putpalette([channel for index in range(256) for channel in (index, 0, 0)])
        image.save(folder / kind / f'{name}.png')
    (folder / 'JPEGImages').mkdir(exist_ok=True)
    Image.fromarray(np.full((*classes.shape, 3), 90, np.uint8)).save(folder / 'JPEGImages' / f'{name}.jpg')


def write_sbd(folder: Path, name: str, objects: np.ndarray, categories: list[int]) -> None:
    """Writes the layout of the release: ``inst/*.mat``, ``img/*.jpg``."""
    for kind in ('inst', 'img'):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    content = {
        'Segmentation': objects.astype(np.uint8),
        'Boundaries': np.zeros((1, 1)),
        'Categories': np.array(categories, np.uint8)[:, None],
    }
    savemat(folder / 'inst' / f'{name}.mat', {'GTinst': content})
    Image.fromarray(np.full((*objects.shape, 3), 60, np.uint8)).save(folder / 'img' / f'{name}.jpg')


def test_photo_that_is_missing_or_has_another_size(tmp_path):
    write_voc(tmp_path, 'a', np.zeros((4, 6)), np.zeros((4, 6)))
    Image.fromarray(np.zeros((6, 4, 3), np.uint8)).save(tmp_path / 'JPEGImages' / 'a.jpg')
    with pytest.raises(ValueError, match=r'a.jpg has width and height \(4, 6\), its annotation \(6, 4\)'):
        convert(find_voc(tmp_path).values(), tmp_path)
    (tmp_path / 'JPEGImages' / 'a.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'JPEGImages/a.jpg is missing, which belongs to .*/a.png'):
        find_voc(tmp_path)


# ---------------------------------------------------------------------------------------------------- what is converted


def test_converted_by_hand():
    """Two people, a horse with one pixel of class person, an object on background, a class without an object."""
    classes = np.array(
        [
            [15, 15, 255, 15, 15, 0],
            [13, 13, 15, 255, 0, 0],
            [13, 0, 0, 7, 0, 255],
        ]
    )
    objects = np.array(
        [
            [1, 1, 255, 2, 2, 0],
            [3, 3, 3, 0, 9, 9],
            [3, 0, 0, 0, 0, 0],
        ]
    )
    annotations, disagreed = maps_to_annotations(LabelMaps(classes, objects))
    found = [(entry['category_id'], entry['iscrowd'], decoded(entry).astype(int).tolist()) for entry in annotations]
    assert found == [
        (15, 0, [[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]),
        (15, 0, [[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]),
        (13, 0, [[0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]),
        # (0, 2), (1, 3), (2, 5) are void; (1, 2), (1, 4), (1, 5), (2, 3) are those on which the maps do not agree.
        (255, 1, [[0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 0, 1]]),
    ]
    assert disagreed == 4
    assert [entry['bbox'] for entry in annotations[:3]] == [[0, 0, 2, 1], [3, 0, 2, 1], [0, 1, 2, 2]]
    assert [entry['area'] for entry in annotations] == [2, 2, 3, 7]
    json.dumps(annotations)


def test_image_of_background_alone():
    assert maps_to_annotations(LabelMaps(np.zeros((3, 4), int), np.zeros((3, 4), int))) == ([], 0)


@pytest.mark.parametrize('categories', [[12], [12, 3], [3, 12, 12]], ids=len)
def test_sbd_as_released(tmp_path, categories):
    """One object makes a scalar of ``Categories``, which has to be an array all the same."""
    objects = np.zeros((5, 8), int)
    for index in range(len(categories)):
        objects[index + 1, index : index + 4] = index + 1
    write_sbd(tmp_path, 'a', objects, categories)
    maps = read_sbd(find_sbd(tmp_path)['a'].annotation[0])
    np.testing.assert_array_equal(maps.objects, objects)
    np.testing.assert_array_equal(maps.classes, np.array([0, *categories])[objects])
    annotations, disagreed = maps_to_annotations(maps)
    assert [entry['category_id'] for entry in annotations] == categories and disagreed == 0


def test_voc_and_its_order_of_classes():
    assert len(CLASSES) == 20
    assert [CLASSES[index - 1] for index in (1, 7, 15, 20)] == ['aeroplane', 'car', 'person', 'tvmonitor']


@pytest.fixture(scope='module')
def samples(test_data, tmp_path_factory) -> Path:
    """A folder with ``voc.json`` and ``sbd.json`` of the samples; their content is tested below."""
    folder = tmp_path_factory.mktemp('voc')
    sources = {
        'voc': find_voc(test_data / 'voc_samples' / 'voc_layout'),
        'sbd': find_sbd(test_data / 'voc_samples' / 'sbd_mat'),
    }
    sources['both'] = {**sources['voc'], **sources['sbd']}
    for name, images in sources.items():
        content, counts = convert(images.values(), folder)
        assert counts['images'] == len(images) == {'voc': 3, 'sbd': 7, 'both': 10}[name]
        assert counts['objects'] == {'voc': 12, 'sbd': 24, 'both': 36}[name]
        (folder / f'{name}.json').write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(('layout', 'void'), [('voc', 9460 + 909), ('sbd', 0)])
def test_samples_pixel_by_pixel(test_data, samples, layout, void):
    content = json.loads((samples / f'{layout}.json').read_text())
    assert [entry['id'] for entry in content['annotations']] == list(range(1, len(content['annotations']) + 1))
    assert [category['name'] for category in content['categories']] == [*CLASSES, 'void']
    counted = 0
    for image in content['images']:
        name = Path(image['file_name']).stem
        assert (samples / image['file_name']).samefile(next((test_data / 'voc_samples').glob(f'*/**/{name}.jpg')))
        classes, objects = plain_maps(name, test_data / 'voc_samples')
        found_classes, found_objects = np.zeros_like(classes), np.zeros_like(objects)
        annotations = [entry for entry in content['annotations'] if entry['image_id'] == image['id']]
        ids = np.unique(objects[(objects > 0) & (objects < 255)])
        # An image without void has no last annotation.
        for entry, object_id in zip(annotations, [*ids, 255], strict=False):
            assert not found_objects[decoded(entry)].any()
            found_classes[decoded(entry)], found_objects[decoded(entry)] = entry['category_id'], object_id
            assert entry['iscrowd'] == (entry['category_id'] == 255)
            assert entry['area'] == decoded(entry).sum()
        np.testing.assert_array_equal(found_classes, classes)
        np.testing.assert_array_equal(found_objects, objects)
        counted += (classes == 255).sum()
    assert counted == void


# ---------------------------------------------------------------------------------------------------- the data set


def load_config(samples: Path, name: str = 'both') -> Config:
    """The data sets of the config, on the samples, with nothing else changed."""
    config = Config.fromfile(CONFIGS / '_base_' / 'datasets' / 'voc2012.py')
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.dataset.update(data_root=str(samples), ann_file=f'{name}.json')
    return config


def test_config_builds_the_data_set(samples):
    config = load_config(samples)
    dataset = DATASETS.build(config.val_dataloader.dataset)
    assert isinstance(dataset, VOCInstanceDataset) and len(dataset) == 10
    assert dataset.metainfo['classes'] == CLASSES and len(dataset.metainfo['palette']) == 20
    assert config.train_dataloader.batch_size == 1


def test_void_is_ignored_and_nothing_else(test_data, samples):
    dataset = DATASETS.build(load_config(samples).val_dataloader.dataset)
    total = 0
    for item in dataset:
        sample = item['data_samples']
        classes, objects = plain_maps(Path(sample.img_path).stem, test_data / 'voc_samples')
        found_classes, found_objects = sample.gt_sem_seg.data[0].numpy(), sample.gt_instance_map.data[0].numpy()
        np.testing.assert_array_equal(found_classes, classes)
        np.testing.assert_array_equal(found_objects == -1, classes == 255)
        np.testing.assert_array_equal(found_objects == 0, classes == 0)
        pairs = set(zip(objects[classes != 255].tolist(), found_objects[classes != 255].tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})  # the same objects, other numbers
        total += (classes == 255).sum()
    assert total == 9460 + 909


def test_pipeline_of_the_recipe(samples):
    """Scale, rotation, flip, crop: image and maps stay aligned, and pixels outside the original image are ignored."""
    np.random.seed(0)
    config = load_config(samples)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    longer_sides, unseen = [], 0
    for index in [*range(10), *range(10)]:
        item = dataset[index]
        sample, (_, height, width) = item['data_samples'], item['inputs'].shape
        assert height % 8 == 0 and width % 8 == 0
        assert tuple(sample.img_shape) == (height, width)
        classes, objects = sample.gt_sem_seg.data[0], sample.gt_instance_map.data[0]
        assert classes.shape == objects.shape == (height, width)
        np.testing.assert_array_equal(classes == 255, objects == -1)
        np.testing.assert_array_equal(classes == 0, objects == 0)
        assert set(classes.unique().tolist()) <= {0, *range(1, 21), 255}
        longer_sides.append(max(height, width))
        if index >= 3:  # SBD has no void: what is ignored comes from the rotation
            unseen += int((classes == 255).sum())
    assert 230 - 8 <= min(longer_sides) < 350 and 600 < max(longer_sides) <= 730
    assert unseen > 0


def test_trains_and_tests(samples):
    """Two steps and the metrics, on a small network, with everything else as configured (two images a batch, for its
    batch norm)."""
    torch.manual_seed(0)
    np.random.seed(0)
    init_default_scope('mmseg')
    config = load_config(samples)
    train_pipeline = config.train_dataloader.dataset.pipeline
    next(step for step in train_pipeline if step.type == 'RandomResize').scale = (120, 120)
    model = Config.fromfile(CONFIGS / '_base_' / 'models' / 'instancenet_unet.py').model
    model.decode_head.num_classes = 21
    model.decode_head.loss_decode = dict(type='CrossEntropyLoss', avg_non_ignore=True)
    model = MODELS.build(model).train()
    dataset = DATASETS.build(config.train_dataloader.dataset)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    for pair in ((0, 5), (1, 2)):
        losses = model.train_step(pseudo_collate([dataset[index] for index in pair]), wrapper)
        assert all(torch.isfinite(value).all() for value in losses.values())
        assert losses['loss'] > 0
    item = DATASETS.build(config.val_dataloader.dataset)[0]
    predicted = model.eval().test_step(pseudo_collate([item]))[0]
    assert predicted.pred_sem_seg.data.shape == predicted.gt_sem_seg.data.shape == (1, 338, 500)


# ---------------------------------------------------------------------------------------------------- void changes nothing


@pytest.fixture(scope='module')
def image(samples) -> dict:
    """The sample with most void: its data sample, and a prediction that is wrong in places."""
    init_default_scope('mmseg')
    dataset = DATASETS.build(load_config(samples, 'voc').val_dataloader.dataset)
    sample = dataset[0]['data_samples']
    classes, objects = sample.gt_sem_seg.data[0], sample.gt_instance_map.data[0]
    assert (classes == 255).sum() == 9460
    predicted = torch.roll(objects.clamp(min=0), (5, 9), (0, 1))
    return dict(sample=sample, predicted=predicted, void=classes == 255)


LOSSES = {
    'cross-entropy': CrossEntropyLoss(avg_non_ignore=True),
    'weighted cross-entropy': WeightedCrossEntropyLoss(class_weight=[0.5] + [1.0] * 20),
    'dice': ClassDiceLoss(),
    'discriminative': DiscriminativeLoss(),
    'discriminative, background': DiscriminativeLoss(
        background_is_instance=True, class_agnostic=True, push_distance=30
    ),
    'spherical pairs': SphericalPairLoss(max_samples=2000),
    'spherical pairs, released': SphericalPairLoss(variant='released', max_samples=2000, background_is_instance=False),
}


@pytest.mark.parametrize('name', LOSSES)
def test_void_changes_no_loss(image, name):
    """Other values on void pixels: the same value, the same gradient, and none on void itself."""
    sample, void = image['sample'], image['void']
    classes, objects = sample.gt_sem_seg.data, sample.gt_instance_map.data
    generator = torch.Generator().manual_seed(0)
    embedding = isinstance(LOSSES[name], (DiscriminativeLoss, SphericalPairLoss))
    channels = 4 if embedding else 21
    values = torch.randn(1, channels, *void.shape, generator=generator)
    other = torch.where(void, 50 * torch.randn(values.shape, generator=generator), values)
    found = []
    for output in (values, other):
        output = output.clone().requires_grad_()
        torch.manual_seed(0)  # pairs are drawn at random
        if embedding:
            loss = LOSSES[name](output, objects, classes)['loss_embedding']
        else:
            loss = LOSSES[name](output, classes, ignore_index=255)
        loss.backward()
        assert loss > 0 and output.grad.abs().sum() > 0
        assert not output.grad[:, :, void].any()
        found.append((loss.detach(), output.grad))
    (value, gradient), (other_value, other_gradient) = found
    assert value == other_value
    # Several threads may add a gradient up in another order.
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-6, atol=1e-6 * float(gradient.abs().max()))


def evaluate(image: dict, metric: str, predicted: torch.Tensor) -> dict[str, float]:
    """Metrics of a metric for a label map of instances; a label's class and score hang on its number alone."""
    count = 12
    classes = torch.tensor([0, *(15 if index in (1, 2) else index for index in range(1, count + 1))])
    instances = {
        'bboxes': labels_to_boxes(predicted, count),
        'scores': torch.linspace(0.5, 0.9, count),
        'labels': classes[1:] - 1,
        'masks': labels_to_rle(predicted.numpy(), count),
    }
    kept = [label - 1 for label in range(1, count + 1) if label in predicted]
    for key in ('bboxes', 'scores', 'labels'):
        instances[key] = instances[key][kept]
    instances['masks'] = [instances['masks'][index] for index in kept]
    sample = dict(
        image['sample'].to_dict(),
        pred_instances=instances,
        pred_sem_seg={'data': classes[predicted][None]},
        pred_instance_map={'data': predicted[None]},
    )
    metric = METRICS.build(dict(type=metric))
    metric.dataset_meta = VOCInstanceDataset.METAINFO
    metric.process({}, [sample])
    return metric.evaluate(1)


@pytest.mark.parametrize(
    'metric',
    [
        'CocoInstanceMetric',
        'ForegroundIoUMetric',
        'TrimapIoUMetric',
        'RegionAveragePrecisionMetric',
        'ProposalRecallMetric',
        'CountingMetric',
    ],
)
def test_void_changes_no_metric(image, metric):
    """Void pixels given to the background, to an instance, to new instances, and at random."""
    predicted, void = image['predicted'], image['void']
    plain = evaluate(image, metric, predicted)
    assert any(value > 0 for value in plain.values())
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(void.shape[0])[:, None].expand(void.shape)
    fillings = {
        'background': torch.zeros_like(predicted),
        'one instance': torch.full_like(predicted, 2),
        'new instances': torch.where(rows % 20 < 10, 11, 12),
        'random': torch.randint(0, 13, predicted.shape, generator=generator),
    }
    for name, filling in fillings.items():
        found = evaluate(image, metric, torch.where(void, filling, predicted))
        assert found.keys() == plain.keys()
        np.testing.assert_equal(found, plain, err_msg=name)
