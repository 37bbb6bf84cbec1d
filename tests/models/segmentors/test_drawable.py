"""mmdet's and mmseg's visualizers draw our results: in runs with their hooks, and as they draw mmdet's own form."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.visualization import DetLocalVisualizer
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from mmseg.registry import VISUALIZERS
from mmseg.structures import SegDataSample
from pycocotools import mask as coco_mask
from untrained_digits import untrained_digits

from mmseg_instancenet.datasets import DigitsDataset
from mmseg_instancenet.models.postprocess.instances import make_instances
from mmseg_instancenet.models.scorers.score_regressor import ClassVotes
from mmseg_instancenet.structures import ClassMap, RunLengthMasks

CONFIG = Path(__file__).parents[3] / 'configs/instancenet_digits.py'
PALETTE = np.array(DigitsDataset.METAINFO['palette'])
HOOKS = {
    'mmdet': (dict(type='mmdet.DetVisualizationHook', draw=True, score_thr=0.0), 'mmdet.DetLocalVisualizer'),
    'mmseg': (dict(type='SegVisualizationHook', draw=True, interval=1), 'SegLocalVisualizer'),
}


@pytest.fixture(scope='module')
def digits(tmp_path_factory) -> tuple:
    folder = tmp_path_factory.mktemp('digits')
    return folder, untrained_digits(CONFIG, folder, num_val=3)[0]


def run(digits, hook: str, work_dir: Path, **settings) -> list[np.ndarray]:
    """Tests three images with a hook; the drawings (H, 2 W, 3) in RGB, in the order of the images."""
    folder, config = digits
    config = config.copy()
    config.merge_from_dict({'model.test_cfg.classes': 'ground_truth', **settings})
    drawing, visualizer = HOOKS[hook]
    name = f'{hook}-{work_dir.name}'  # MMEngine keeps visualizers by their names
    config.update(
        load_from=str(folder / 'untrained.pth'),
        work_dir=str(work_dir),
        experiment_name=name,
        visualizer=dict(type=visualizer, name=name, vis_backends=[dict(type='LocalVisBackend')]),
    )
    config.default_hooks.visualization = drawing
    Runner.from_cfg(config).test()
    files = sorted(work_dir.rglob('vis_image/*.png'))
    assert len(files) == 3
    return [cv2.imread(str(file))[..., ::-1] for file in files]


def images_and_classes(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each image (H, W, 3) and its class map (H, W): 0 = background, k + 1 = digit k."""
    dataset = DigitsDataset(
        data_root=str(folder / 'data'), ann_file='val.json', data_prefix={'img': 'val/'}, test_mode=True
    )
    found = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        image = cv2.imread(info['img_path'])
        class_map = np.zeros(image.shape[:2], int)
        for instance in info['instances']:
            class_map[coco_mask.decode(instance['mask']) > 0] = instance['bbox_label'] + 1
        found.append((image, class_map))
    return found


def test_mmseg_draws_each_class_and_the_background_in_its_colour(digits, tmp_path):
    """Twenty percent of the image and eighty of the colour, black for the background, where no name is written."""
    for drawing, (image, class_map) in zip(run(digits, 'mmseg', tmp_path), images_and_classes(digits[0]), strict=True):
        expected = 0.2 * image + 0.8 * np.array([(0, 0, 0), *PALETTE])[class_map]
        for half in np.split(drawing, 2, axis=1):
            near = (np.abs(half - expected) <= 1.5).all(2)
            assert near.mean() > 0.8
            for label in np.unique(class_map):
                assert near[class_map == label].mean() > 0.3


def test_mmdet_draws_each_class_in_its_colour_and_no_background(digits, tmp_path):
    for drawing, (image, class_map) in zip(run(digits, 'mmdet', tmp_path), images_and_classes(digits[0]), strict=True):
        truth, prediction = np.split(drawing.astype(float), 2, axis=1)
        painted = 0.2 * image + 0.8 * PALETTE[class_map - 1]
        expected = np.where(class_map[..., None] > 0, painted, image)
        near = (np.abs(truth - expected) <= 2).all(2)
        assert near.mean() > 0.6  # a name is written on each digit
        for label in np.unique(class_map):
            assert near[class_map == label].mean() > 0.2
        # The masks of the instances, in the colours of their classes, lie under it; boxes and scores over all.
        inside = class_map > 0
        assert np.median(np.abs(prediction - PALETTE[class_map - 1])[inside]) < 60
        assert not np.array_equal(prediction, truth)


@pytest.mark.parametrize('hook', HOOKS)
def test_predicted_classes_and_few_instances_are_drawn_too(hook, digits, tmp_path):
    settings = {'model.test_cfg.classes': 'predicted', 'model.test_cfg.score_thr': 1.0}
    assert all(drawing.shape == (64, 128, 3) for drawing in run(digits, hook, tmp_path, **settings))


@pytest.mark.parametrize('background', [True, False, None])
@pytest.mark.parametrize('palette', [2, 4, None])
def test_mmsegs_visualizer_draws_other_models_unchanged(background, palette):
    """It names a background only for samples that have one."""
    if palette != 4 and not background:
        return  # mmseg itself needs a colour for each class
    class_map = torch.arange(60)[None, :, None].expand(1, 60, 90) // 15 % (4 + bool(background))
    sample = SegDataSample(pred_sem_seg=PixelData(data=class_map))
    if background is not None:
        sample.set_metainfo({'background': background})
    visualizer = VISUALIZERS.build(dict(type='SegLocalVisualizer', name=f'{background}{palette}'))
    meta = {'classes': list('abcd'), 'palette': None if palette is None else PALETTE[:palette].tolist()}
    visualizer.dataset_meta = meta
    image = np.full((60, 90, 3), 50, np.uint8)
    visualizer.add_datasample('x', image, sample, with_labels=False)
    found = visualizer.get_image()
    assert visualizer.dataset_meta is meta
    colors = found[::15, 0].astype(int) - 10
    assert len(np.unique(colors, axis=0)) == 4
    known = [(0, 0, 0)] * bool(background) + PALETTE[: palette or 0].tolist()
    assert np.abs(colors[: len(known)] - 0.8 * np.array(known[:4])).max() <= 1


# Beside results in mmdet's own form


def scene(count: int, num_classes: int, background: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Instances (H, W), 0 = none, the labels (K,) of each from 0, and a class map (H, W) with ignored pixels."""
    rng = np.random.default_rng(count)
    ids = np.zeros((60, 90), int)
    for number in range(1, count + 1):
        row, column = rng.integers(0, 40), rng.integers(0, 70)
        ids[row : row + 15, column : column + 18] = number
    ids = np.unique(ids, return_inverse=True)[1].reshape(ids.shape)
    labels = rng.integers(0, num_classes, ids.max())
    filler = 0 if background else num_classes - 1
    class_map = np.array([filler, *(labels + background)])[ids]
    class_map[:5] = 255
    return ids, labels, class_map


def drawn(sample: DetDataSample, classes: list[str]) -> np.ndarray:
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = {'classes': classes, 'palette': [tuple(map(int, color)) for color in PALETTE]}
    np.random.seed(0)  # mmdet jitters the colours of masks
    visualizer.add_datasample('x', np.full((60, 90, 3), 90, np.uint8), sample, pred_score_thr=0.3)
    return visualizer.get_image()


@pytest.mark.parametrize('background', [True, False])
@pytest.mark.parametrize('count', [0, 1, 2, 7])
def test_it_is_drawn_as_mmdets_own_form_is(count, background):
    ids, labels, class_map = scene(count, 4, background)
    num = len(labels)
    votes = ClassVotes(*[torch.from_numpy(labels) + 1] * len(ClassVotes._fields))
    ours = make_instances(torch.from_numpy(ids), torch.ones(num), votes, lambda *_: torch.linspace(0.1, 0.9, num))
    masks = np.stack([ids == number + 1 for number in range(num)]) if num else np.zeros((0, 60, 90))
    theirs = InstanceData(bboxes=ours.bboxes, labels=ours.labels, scores=ours.scores, masks=BitmapMasks(masks, 60, 90))
    data = torch.from_numpy(class_map)[None]
    place = torch.where((data == 255) | ((data == 0) & background), 255, data - int(background))
    images = []
    for instances, sem_seg in (
        (ours, ClassMap(metainfo={'background': background}, data=data)),
        (theirs, PixelData(sem_seg=place)),
    ):
        sample = DetDataSample(pred_instances=instances, pred_sem_seg=sem_seg)
        sample.gt_sem_seg = sem_seg
        images.append(drawn(sample, list('abcd')))
    np.testing.assert_array_equal(*images)
    assert images[0].std() > 5 or (num == 0 and background)


# The list of masks


@pytest.mark.parametrize('count', [0, 1, 5])
def test_masks_stay_a_list_of_run_lengths_whatever_takes_a_part(count):
    rng = np.random.default_rng(0)
    dense = rng.random((count, 6, 7)) < 0.4
    rles = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in dense]
    masks = RunLengthMasks(rles, (6, 7))
    assert isinstance(masks, list) and masks == rles and pickle.loads(pickle.dumps(masks)).size == (6, 7)
    instances = InstanceData(masks=masks, scores=torch.arange(count))
    chosen = np.flatnonzero(rng.random(count) < 0.6)
    for item in (torch.from_numpy(chosen), torch.from_numpy(np.isin(np.arange(count), chosen)), chosen):
        found = instances[item].masks
        assert found == [rles[index] for index in chosen]
        assert np.array_equal(found.astype(bool), dense[chosen]) and found.astype(bool).shape == (len(chosen), 6, 7)
    joined = InstanceData.cat([instances, instances]).masks
    assert joined == rles + rles and np.array_equal(joined.astype(np.uint8), np.concatenate([dense, dense]))
    assert masks == rles  # untouched
    assert instances.cpu().numpy().masks.astype(bool).shape == (count, 6, 7)
