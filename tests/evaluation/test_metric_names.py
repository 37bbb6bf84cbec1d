"""The names of values before an evaluation equal those of a real evaluation."""

import json
from numbers import Real

import pytest
import torch
from mmengine.evaluator import DumpResults
from mmengine.structures import InstanceData
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS
from pycocotools import mask as coco_mask

from mmseg_instancenet.evaluation import CocoInstanceMetric
from mmseg_instancenet.evaluation.metric_names import metric_names

SIZE = (16, 24)


@pytest.fixture
def evaluated(tmp_path):
    """The names that a metric gives for one image with a cat and a dog, both found."""
    class_HW = torch.zeros(SIZE, dtype=torch.long)
    class_HW[2:8, 2:10], class_HW[9:14, 8:20] = 1, 2
    masks = [coco_mask.encode((class_HW == k).numpy().astype('uint8', order='F')) for k in (1, 2)]
    truth = [
        {
            'id': k + 1,
            'image_id': 1,
            'category_id': k + 1,
            'iscrowd': 0,
            'area': int(coco_mask.area(mask)),
            'bbox': coco_mask.toBbox(mask).tolist(),
            'segmentation': {'size': mask['size'], 'counts': mask['counts'].decode()},
        }
        for k, mask in enumerate(masks)
    ]
    file = tmp_path / 'truth.json'
    categories = [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}]
    image = {'id': 1, 'file_name': '1.png', 'height': SIZE[0], 'width': SIZE[1]}
    file.write_text(json.dumps({'images': [image], 'annotations': truth, 'categories': categories}))
    boxes = torch.tensor([entry['bbox'] for entry in truth])
    boxes[:, 2:] += boxes[:, :2]
    found = InstanceData(bboxes=boxes, scores=torch.tensor([0.9, 0.8]), labels=torch.tensor([0, 1]), masks=masks)
    maps = dict.fromkeys(
        ('gt_sem_seg', 'pred_sem_seg', 'gt_instance_map', 'pred_instance_map'), {'data': class_HW[None]}
    )
    boundary = {'data': (class_HW[None] > 0).float()}
    sample = {'img_id': 1, 'ori_shape': SIZE, 'pred_instances': found, 'pred_boundary': boundary, **maps}
    sample['gt_boundaries'] = {'data': boundary['data'] > 0}

    def evaluate(metric) -> set[str]:
        metric.dataset_meta = {'classes': ('cat', 'dog')}
        known = metric_names([metric])
        if type(metric).__name__ == 'CocoMetric':  # mmdet's has no other way to the ground truth
            metric.process({}, [{**sample, 'instances': []}])
        else:
            metric.process({}, [{**sample, 'ann_file': str(file)}])
        given = {name for name, value in metric.evaluate(1).items() if isinstance(value, Real)}
        return known, given, str(file)

    evaluate.file = str(file)
    return evaluate


COCO = [
    {},
    {'metric': 'bbox'},
    {'metric': ['segm', 'bbox'], 'prefix': 'nuclei'},
    {'metric': ['segm'], 'metric_items': ['mAP_50', 'AR@100']},
    {'metric': 'proposal'},
    {'metric': ['proposal', 'segm'], 'metric_items': ['mAP', 'AR_s@1000']},
    {'metric': 'proposal_fast', 'proposal_nums': (10, 20)},
    {'metric': ['bbox', 'proposal_fast'], 'classwise': True},
]
OTHERS = [
    {'type': 'ForegroundIoUMetric'},
    {'type': 'ForegroundIoUMetric', 'iou_metrics': ['mDice'], 'prefix': 'iou'},
    {'type': 'ForegroundIoUMetric', 'iou_metrics': ['mIoU', 'mFscore']},
    {'type': 'ForegroundIoUMetric', 'iou_metrics': ['mFscore']},
    {'type': 'CountingMetric'},
    {'type': 'CountingMetric', 'prefix': 'leaves'},
    {'type': 'RegionAveragePrecisionMetric'},
    {'type': 'RegionAveragePrecisionMetric', 'classwise': True, 'iou_thresholds': (0.25, 0.5)},
    {'type': 'ProposalRecallMetric'},
    {'type': 'ProposalRecallMetric', 'num_proposals': (1, 5, 7)},
    {'type': 'TrimapIoUMetric'},
    {'type': 'TrimapIoUMetric', 'max_width': 3, 'reported': (1, 3)},
    {'type': 'BoundaryMetric', 'thresholds': 3},
    {'type': 'BoundaryMetric', 'thresholds': 5, 'prefix': 'edges'},
]


@pytest.mark.parametrize('settings', COCO, ids=str)
@pytest.mark.parametrize('kind', ['CocoInstanceMetric', 'mmdet.CocoMetric'])
def test_coco(evaluated, kind, settings):
    known, given, _ = evaluated(METRICS.build({'type': kind, 'ann_file': evaluated.file, **settings}))
    assert known == given and len(known) >= 2


@pytest.mark.parametrize('settings', OTHERS, ids=str)
def test_others(evaluated, settings):
    known, given, _ = evaluated(METRICS.build(settings))
    assert known == given and len(known) >= 2


@pytest.mark.parametrize('iou_metrics', ['mIoU', ['mIoU'], ['mDice', 'mFscore']])
def test_mmsegs_iou(evaluated, iou_metrics):
    """Its own classes, without a background."""
    metric = IoUMetric(iou_metrics=iou_metrics)
    known, given, _ = evaluated(metric)
    assert known == given and 'aAcc' in known


class OwnMetric(CocoInstanceMetric):
    pass


def test_an_unknown_metric_gives_no_names(tmp_path):
    metrics = [CocoInstanceMetric(), IoUMetric()]
    assert metric_names(metrics) is None  # without the classes of the data
    for metric in metrics:
        metric.dataset_meta = {'classes': ('cat',)}
    known = metric_names(metrics)
    assert {'coco/segm_mAP', 'coco/segm_mAP_all', 'mIoU'} <= known
    assert metric_names([*metrics, DumpResults(str(tmp_path / 'out.pkl'))]) == known  # it gives no value
    own = OwnMetric()
    own.dataset_meta = {'classes': ('cat',)}
    assert metric_names([*metrics, own]) is None
    metrics[0].dataset_meta = [{'classes': ('cat',)}, {'classes': ('cat',)}]
    assert metric_names(metrics) is None


def test_files_alone_are_no_values(tmp_path):
    metrics = [
        CocoInstanceMetric(format_only=True, outfile_prefix=str(tmp_path / 'coco')),
        IoUMetric(format_only=True, output_dir=str(tmp_path)),
    ]
    for metric in metrics:
        metric.dataset_meta = {'classes': ('cat',)}
    assert metric_names(metrics) == set()
