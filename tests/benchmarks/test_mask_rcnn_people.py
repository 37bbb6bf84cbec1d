"""Mask R-CNN as a baseline for people, on images made by hand and a backbone with random weights."""

import copy
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from benchmarks import mask_rcnn_people
from benchmarks.mask_rcnn_people import packed_for_mmdet, with_mask_rcnn
from mmseg_instancenet.evaluation import CocoInstanceMetric

OURS = Path(__file__).parents[2] / mask_rcnn_people.OURS
BOXES = (10, 10, 25, 60), (50, 20, 20, 55)
"""x, y, width, height of the two people of each image."""


@pytest.fixture
def people(tmp_path):
    """A folder like Penn-Fudan's: four images, the same to train and to test on."""
    folder = tmp_path / 'people'
    (folder / 'images').mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, 5):
        pixels_HWC = np.full((90, 100, 3), 60, np.uint8)
        for x, y, width, height in BOXES:
            pixels_HWC[y : y + height, x : x + width] = 200
            mask_HW = np.zeros((90, 100), np.uint8, order='F')
            mask_HW[y : y + height, x : x + width] = 1
            rle = coco_mask.encode(mask_HW)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=1,
                    iscrowd=0,
                    area=width * height,
                    bbox=[x, y, width, height],
                    segmentation=dict(rle, counts=rle['counts'].decode()),
                )
            )
        cv2.imwrite(str(folder / 'images' / f'{number}.png'), pixels_HWC)
        images.append(dict(id=number, file_name=f'{number}.png', height=90, width=100))
    text = json.dumps(dict(images=images, annotations=annotations, categories=[dict(id=1, name='person')]))
    for split in ('train', 'val'):
        (folder / f'{split}.json').write_text(text)
    return folder


def options(folder, work_dir):
    """A training of one iteration on two images, with detections kept however unsure the network is of them."""
    pytest.importorskip('timm', reason="timm is not installed: pip install -e '.[pretrained]'")
    settings = {f'{split}_dataloader.dataset.data_root': str(folder) for split in ('val', 'test')}
    settings['train_dataloader.dataset.dataset.data_root'] = str(folder)
    settings |= {f'{split}_dataloader.num_workers': 0 for split in ('train', 'val', 'test')}
    settings |= {f'{split}_dataloader.persistent_workers': False for split in ('train', 'val', 'test')}
    return settings | {
        'train_dataloader.dataset.dataset.indices': [0, 1],
        'train_dataloader.batch_size': 2,
        'train_cfg.max_epochs': 1,
        'default_hooks.checkpoint': None,
        'model.test_cfg.rcnn.score_thr': 0.0,
        'model.backbone.checkpoint_path': '',
        'work_dir': str(work_dir),
        'log_level': 'ERROR',
    }


def config_of(folder, work_dir):
    config = with_mask_rcnn(Config.fromfile(OURS))
    config.merge_from_dict(options(folder, work_dir))
    return config


def test_values():
    ours = Config.fromfile(OURS)
    before = copy.deepcopy(ours.to_dict())
    config = with_mask_rcnn(ours)
    assert ours.to_dict() == before
    backbone = dict(config.model.backbone, type='TIMMBackbone', out_indices=ours.model.backbone.out_indices)
    assert backbone == ours.model.backbone
    for name in ('custom_hooks', 'randomness'):
        assert config[name] == ours[name]
    ours.optim_wrapper.optimizer.lr = 0.001
    ours.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult = 0.3
    assert config.optim_wrapper == ours.optim_wrapper
    assert config.train_dataloader.dataset.dataset.indices == ours.train_dataloader.dataset.dataset.indices
    assert config.train_cfg.max_epochs == 41  # 90 / 2.2
    assert [scheduler.type for scheduler in config.param_scheduler] == ['LinearLR', 'CosineAnnealingLR']
    # What is mmdet's and not named in with_mask_rcnn.
    assert config.model.train_cfg.rcnn.sampler.pos_fraction == 0.25
    assert config.model.roi_head.bbox_head.bbox_coder.target_stds == [0.1, 0.1, 0.2, 0.2]
    assert config.model.test_cfg.rcnn.nms.iou_threshold == 0.5


def test_sizes_and_augmentations_are_ours():
    ours = Config.fromfile(OURS)
    mixed = ours.train_dataloader.dataset
    images, pasted, test = (
        packed_for_mmdet(dataset.pipeline) for dataset in (mixed.dataset, mixed, ours.val_dataloader.dataset)
    )
    names = 'LoadImageFromFile LoadInstanceMasks RandomChoiceResize mmdet.RandomCrop mmdet.FilterAnnotations'
    assert [step['type'] for step in images] == [*names.split(), 'mmdet.RandomFlip', 'mmdet.Pad']
    names = 'mmdet.CopyPaste mmdet.PhotoMetricDistortion mmdet.PackDetInputs'
    assert [step['type'] for step in pasted] == names.split()
    assert images[2] == mixed.dataset.pipeline[2]
    assert test[1] == dict(type='ResizeLongerSide', length=ours.length)
    config = with_mask_rcnn(ours)
    assert config.train_dataloader.dataset.pipeline == pasted
    assert config.train_dataloader.dataset.dataset.pipeline == images


def test_a_person_without_a_pixel_in_the_crop_is_dropped(people, tmp_path):
    """A diagonal person: the crop's corner meets the box alone."""
    content = json.loads((people / 'train.json').read_text())
    mask_HW = np.asfortranarray(np.eye(90, 100, dtype=np.uint8)[:, ::-1])
    rle = coco_mask.encode(mask_HW)
    person = dict(content['annotations'][0], bbox=[10, 0, 90, 90], area=90)
    person['segmentation'] = dict(rle, counts=rle['counts'].decode())
    (people / 'train.json').write_text(json.dumps(dict(content, images=content['images'][:1], annotations=[person])))
    config = config_of(people, tmp_path)
    dataset_config = config.train_dataloader.dataset.dataset
    dataset_config.indices = [0]
    dataset_config.pipeline[2].scales = [(100, 100)]
    dataset_config.pipeline[3].crop_size = (40, 40)
    dataset = Runner.build_dataloader(config.train_dataloader).dataset.dataset
    torch.manual_seed(0)
    np.random.seed(0)
    counts = []
    for _ in range(20):
        image = dataset[0]
        counts.append(len(image['gt_masks']))
        sides_K2 = image['gt_bboxes'].tensor[:, 2:] - image['gt_bboxes'].tensor[:, :2]
        assert (sides_K2 >= 1).all()
        assert all(mask.any() for mask in image['gt_masks'].masks)
    assert set(counts) == {0, 1}


def test_one_iteration(people, tmp_path):
    """The losses are those of an untrained network, and their gradient reaches its first and its last layer."""
    torch.manual_seed(0)
    config = config_of(people, tmp_path)
    runner = Runner.from_cfg(config)
    (batch,) = runner.build_dataloader(config.train_dataloader, seed=0)
    model = runner.model.train()
    model.init_weights()
    optim_wrapper = runner.build_optim_wrapper(config.optim_wrapper)
    with optim_wrapper.optim_context(model):
        batch = model.data_preprocessor(batch, training=True)
        assert all(feature.dtype == torch.float32 for feature in model.extract_feat(batch['inputs']))
        losses = model(**batch, mode='loss')
        loss, values = model.parse_losses(losses)
    loss.backward()
    assert {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'} < set(values)
    assert all(math.isfinite(value.item()) for value in values.values())
    # ln 2 for each choice of two.
    for name in ('loss_rpn_cls', 'loss_cls'):
        assert values[name].item() == pytest.approx(math.log(2), abs=0.1)
    first, last = model.backbone.timm_model.conv_stem.weight, model.roi_head.mask_head.conv_logits.weight
    for weight in (first, last):
        assert weight.grad.isfinite().all() and weight.grad.abs().max() > 0


def test_metrics_agree(people, tmp_path):
    """Ours and mmdet's on masks as Mask R-CNN gives them: one person exact, one with three of four rows, a false one."""
    detections = InstanceData(
        bboxes=torch.tensor([[10.0, 10, 35, 70], [50, 20, 70, 60], [0, 0, 9, 9]]),
        masks=torch.zeros(3, 90, 100, dtype=torch.bool),
        scores=torch.tensor([0.9, 0.7, 0.8]),
        labels=torch.zeros(3, dtype=torch.long),
    )
    for mask_HW, (x1, y1, x2, y2) in zip(detections.masks, detections.bboxes.int().tolist(), strict=True):
        mask_HW[y1:y2, x1:x2] = True
    metrics = []
    for kind in (CocoInstanceMetric, CocoMetric):
        metric = kind(ann_file=str(people / 'val.json'), metric=['segm', 'bbox'])
        metric.dataset_meta = dict(classes=('person',))
        for number in range(1, 5):
            sample = dict(img_id=number, ori_shape=(90, 100), pred_instances=detections)
            metric.process({}, [sample])
        metrics.append(metric.evaluate(4))
    ours, mmdets = metrics
    assert {name: ours[name] for name in mmdets} == mmdets
    # IoU 40 / 55 = .73 is enough at 5 of 10 thresholds, with precision 2 / 3 for half of the people.
    at_most_70, above = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert ours['coco/segm_mAP'] == pytest.approx((at_most_70 + above) / 2, abs=6e-4)


def test_command(people, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(OURS.parents[1])
    settings = [
        f'{key}={value}' if value != [0, 1] else f'{key}=[0,1]' for key, value in options(people, tmp_path).items()
    ]
    # MMEngine names a run by the second in which it begins, and has one log for each name.
    name = f'experiment_name={tmp_path.name}'
    mask_rcnn_people.main(['--cfg-options', name, *settings])
    assert 'trained: 1 iterations in 0.' in capsys.readouterr().out
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    metrics = [json.loads(line) for line in log.read_text().splitlines()]
    assert 0 <= metrics[-1]['coco/segm_mAP'] <= 1
