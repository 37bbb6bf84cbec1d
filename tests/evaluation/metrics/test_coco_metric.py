"""``CocoInstanceMetric`` against the official metrics and against known results."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from mmseg_instancenet.datasets import CocoInstanceDataset
from mmseg_instancenet.evaluation import CocoInstanceMetric
from mmseg_instancenet.evaluation.metrics import coco_metric
from mmseg_instancenet.structures import labels_to_boxes, labels_to_rle

OFFICIAL = {'mAP': 0.320, 'mAP_50': 0.562, 'mAP_75': 0.299, 'AR@100': 0.417}
"""``instances_val2014_fakesegm100_results.json`` by the official cocoapi."""


def prediction(image: dict, detections: list[dict], label_of: dict[int, int]) -> dict:
    """A data sample in the form in which a metric receives it."""
    masks = [dict(detection['segmentation']) for detection in detections]
    boxes = np.array([coco_mask.toBbox(mask) for mask in masks]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return {
        'img_id': image['id'],
        'ori_shape': (image['height'], image['width']),
        'pred_instances': {
            'bboxes': torch.from_numpy(boxes),
            'scores': torch.tensor([detection['score'] for detection in detections]),
            'labels': torch.tensor([label_of[d['category_id']] for d in detections], dtype=torch.long),
            'masks': masks,
        },
    }


@pytest.fixture(scope='module')
def fakesegm(test_data) -> tuple[Path, list[dict]]:
    """Annotation file and data samples of cocoapi's 100 images."""
    ann_file = test_data / 'coco_fakesegm' / 'instances_val2014_100.json'
    truth = json.loads(ann_file.read_text())
    detections = json.loads((test_data / 'coco_fakesegm' / 'instances_val2014_fakesegm100_results.json').read_text())
    label_of = {category['id']: label for label, category in enumerate(truth['categories'])}
    samples = [
        prediction(image, [d for d in detections if d['image_id'] == image['id']], label_of)
        for image in truth['images']
    ]
    assert sum(len(sample['pred_instances']['masks']) for sample in samples) == 734
    return ann_file, samples


def evaluate(metric: CocoInstanceMetric, samples: list[dict]) -> dict[str, float]:
    metric.process({}, [dict(sample) for sample in samples])
    return {key.removeprefix('coco/'): value for key, value in metric.evaluate(len(samples)).items()}


COCO_CLASSES = {'classes': CocoInstanceDataset.METAINFO['classes']}


def test_official_metrics(fakesegm):
    ann_file, samples = fakesegm
    metric = CocoInstanceMetric(ann_file=str(ann_file), metric='segm', metric_items=list(OFFICIAL))
    metric.dataset_meta = COCO_CLASSES
    metrics = evaluate(metric, samples)
    for name, value in OFFICIAL.items():
        assert metrics[f'segm_{name}'] == pytest.approx(value, abs=0.0005)
    assert metrics['segm_mAP_all'] == metrics['segm_mAP']


def test_uncapped_evaluation_is_the_official_one_below_the_limit(fakesegm, monkeypatch):
    ann_file, samples = fakesegm
    monkeypatch.setattr(coco_metric, '_COCO_LIMIT', 0)  # so that the metric is computed on its own, not copied
    metric = CocoInstanceMetric(ann_file=str(ann_file), metric='segm')
    metric.dataset_meta = COCO_CLASSES
    metrics = evaluate(metric, samples)
    assert metric._uncapped
    assert metrics['segm_mAP_all'] == pytest.approx(OFFICIAL['mAP'], abs=0.0005)


def test_uncapped_ap_does_not_depend_on_the_requested_metrics(fakesegm):
    ann_file, samples = fakesegm
    metric = CocoInstanceMetric(ann_file=str(ann_file), metric='segm', metric_items=['mAP_50'])
    metric.dataset_meta = COCO_CLASSES
    metrics = evaluate(metric, samples)
    assert set(metrics) == {'segm_mAP_50', 'segm_mAP_all'}
    assert metrics['segm_mAP_50'] == pytest.approx(OFFICIAL['mAP_50'], abs=0.0005)
    assert metrics['segm_mAP_all'] == pytest.approx(OFFICIAL['mAP'], abs=0.0005)


# A set of our own: discs like nuclei, as many as one likes in an image.


def discs(rows: int, columns: int) -> np.ndarray:
    """A label map with rows x columns discs of nine pixels across."""
    labels = np.zeros((12 * rows, 12 * columns), np.int64)
    row, column = np.mgrid[:12, :12]
    disc = np.hypot(row - 5, column - 5) <= 4.5
    for index in range(rows * columns):
        top, left = 12 * (index // columns), 12 * (index % columns)
        labels[top : top + 12, left : left + 12][disc] = index + 1
    return labels


def write_truth(folder: Path, maps: list[np.ndarray]) -> Path:
    """A COCO json of one class with an image for each label map."""
    images, annotations = [], []
    for image, labels in enumerate(maps, 1):
        images.append({'id': image, 'file_name': f'{image}.png', 'height': labels.shape[0], 'width': labels.shape[1]})
        for index in range(1, int(labels.max()) + 1):
            encoded = coco_mask.encode(np.asfortranarray((labels == index).astype(np.uint8)))
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image,
                    'category_id': 1,
                    'iscrowd': 0,
                    'area': float(coco_mask.area(encoded)),
                    'bbox': coco_mask.toBbox(encoded).tolist(),
                    'segmentation': {'size': encoded['size'], 'counts': encoded['counts'].decode()},
                }
            )
    path = folder / 'truth.json'
    categories = [{'id': 1, 'name': 'nucleus'}]
    path.write_text(json.dumps({'images': images, 'annotations': annotations, 'categories': categories}))
    return path


def sample_of(image: int, labels: np.ndarray, scores: np.ndarray) -> dict:
    count = len(scores)
    return {
        'img_id': image,
        'ori_shape': labels.shape,
        'pred_instances': {
            'bboxes': labels_to_boxes(torch.from_numpy(labels), count),
            'scores': torch.from_numpy(scores),
            'labels': torch.zeros(count, dtype=torch.long),
            'masks': labels_to_rle(labels, count),
        },
    }


NUCLEUS = {'classes': ('nucleus',)}


def test_limit_of_100_lowers_the_ap_of_perfect_nuclei_and_the_uncapped_ap_is_1(tmp_path):
    labels = discs(10, 15)
    metric = CocoInstanceMetric(ann_file=str(write_truth(tmp_path, [labels])))
    metric.dataset_meta = NUCLEUS
    metrics = evaluate(metric, [sample_of(1, labels, np.linspace(0.9, 0.5, 150))])
    # 100 of 150 found: precision 1 at the 67 recall steps 0, 0.01, .., 0.66 of 101.
    assert metrics['segm_mAP'] == metrics['bbox_mAP'] == round(67 / 101, 3)
    assert metrics['segm_mAP_all'] == 1.0


def test_uncapped_ap_of_an_imperfect_result(tmp_path):
    """Of 150 nuclei the 30 best scored are wrong (half a disc: IoU about 0.5), the other 120 perfect."""
    labels = discs(10, 15)
    found = labels.copy()
    row = np.arange(labels.shape[0])[:, None] % 12
    found[(labels <= 30) & (labels > 0) & (row > 3)] = 0
    metric = CocoInstanceMetric(ann_file=str(write_truth(tmp_path, [labels])), metric='segm')
    metric.dataset_meta = NUCLEUS
    metrics = evaluate(metric, [sample_of(1, found, np.linspace(0.9, 0.5, 150))])
    overlap = (found == 1).sum() / (labels == 1).sum()
    assert overlap < 0.5
    # After the 30 misses the k-th hit has precision k / (30 + k), which grows: the last, 120 / 150, holds for every
    # recall up to 120 / 150 = 0.8, the steps 0, 0.01, .., 0.8; beyond it is 0.
    assert metrics['segm_mAP_all'] == pytest.approx(0.8 * 81 / 101, abs=0.001)


@pytest.mark.parametrize(
    'settings',
    [{}, {'metric_items': ['mAP', 'AR@100']}, {'classwise': True}, {'metric': ['proposal', 'segm']}],
    ids=['default', 'items', 'classwise', 'proposal'],
)
def test_without_detections_every_key_is_there_and_zero(tmp_path, capsys, settings):
    maps = [discs(2, 3), discs(1, 2)]
    ann_file = str(write_truth(tmp_path, maps))

    def metrics_of(samples: list[dict]) -> dict[str, float]:
        metric = CocoInstanceMetric(ann_file=ann_file, **settings)
        metric.dataset_meta = NUCLEUS
        return evaluate(metric, samples)

    found = metrics_of([sample_of(i, labels, np.ones(labels.max())) for i, labels in enumerate(maps, 1)])
    assert found['segm_mAP'] == 1.0
    capsys.readouterr()
    empty = metrics_of([sample_of(i, np.zeros_like(labels), np.ones(0)) for i, labels in enumerate(maps, 1)])
    assert set(empty) == set(found)
    # COCO's -1 is for sizes of which the ground truth has no object.
    assert {key for key, value in empty.items() if value} == {key for key, value in found.items() if value == -1}
    assert 'Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.000' in capsys.readouterr().out


def test_one_image_without_detections_among_others(tmp_path):
    maps = [discs(1, 3), discs(1, 3)]
    metric = CocoInstanceMetric(ann_file=str(write_truth(tmp_path, maps)))
    metric.dataset_meta = NUCLEUS
    samples = [sample_of(1, np.zeros_like(maps[0]), np.ones(0)), sample_of(2, maps[1], np.ones(3))]
    metrics = evaluate(metric, samples)
    # Half the nuclei: the 51 recall steps up to 0.5.
    assert metrics['segm_mAP'] == metrics['segm_mAP_all'] == round(51 / 101, 3)


@pytest.mark.parametrize('rows', [1, 8], ids=['few', 'above the limit'])
def test_images_that_the_data_set_leaves_out_do_not_count(tmp_path, rows):
    """``indices`` of a data set: the annotation file has an image that nothing looked at."""
    maps = [discs(1, 3), discs(rows, 15)]
    metric = CocoInstanceMetric(ann_file=str(write_truth(tmp_path, maps)))
    metric.dataset_meta = NUCLEUS
    metrics = evaluate(metric, [sample_of(2, maps[1], np.ones(15 * rows))])
    assert metrics['segm_mAP_all'] == 1.0
    assert metrics['segm_mAP'] == (1.0 if rows == 1 else round(84 / 101, 3))  # 100 of 120 are looked at


def test_annotation_file_comes_from_the_data_set(tmp_path):
    labels = discs(2, 3)
    ann_file = str(write_truth(tmp_path, [labels]))
    only_four = np.where(labels <= 4, labels, 0)
    results = []
    for metric, of_sample in (
        (CocoInstanceMetric(ann_file=ann_file), {}),
        (CocoInstanceMetric(), {'ann_file': ann_file}),
    ):
        metric.dataset_meta = NUCLEUS
        results.append(evaluate(metric, [sample_of(1, only_four, np.linspace(1, 0.5, 4)) | of_sample]))
    assert results[0] == results[1]
    assert results[0]['segm_mAP'] == round(67 / 101, 3)  # 4 of 6


def test_own_annotation_file_is_not_replaced_by_that_of_the_data_set(tmp_path):
    labels = discs(1, 2)
    metric = CocoInstanceMetric(ann_file=str(write_truth(tmp_path, [labels])))
    metric.dataset_meta = NUCLEUS
    sample = sample_of(1, labels, np.ones(2)) | {'ann_file': str(tmp_path / 'absent.json')}
    assert evaluate(metric, [sample])['segm_mAP'] == 1.0


def test_metric_is_segm_and_bbox_unless_given(tmp_path):
    assert CocoInstanceMetric().metrics == ['segm', 'bbox']
    assert CocoInstanceMetric(metric='segm').metrics == ['segm']
    assert CocoInstanceMetric(metric=('bbox',)).metrics == ['bbox']


def test_a_size_with_channels_is_that_of_the_image(tmp_path):
    labels = discs(2, 3)
    height, width = labels.shape
    metric = CocoInstanceMetric(ann_file=str(write_truth(tmp_path, [labels])))
    metric.dataset_meta = NUCLEUS
    sample = sample_of(1, labels, np.ones(labels.max()))
    assert evaluate(metric, [sample | {'ori_shape': (height, width, 3)}])['segm_mAP'] == 1
    with pytest.raises(
        ValueError, match=rf'height and width \({height}, {width}\), got an image of \({width}, {height}\)'
    ):
        evaluate(metric, [sample | {'ori_shape': (width, height, 3)}])


@pytest.mark.parametrize(('count', 'of_coco'), [(100, 1.0), (101, round(100 / 101, 3))])
def test_one_detection_more_than_cocos_limit(tmp_path, count, of_coco):
    maps = [discs(1, count)]
    metric = CocoInstanceMetric(ann_file=str(write_truth(tmp_path, maps)))
    metric.dataset_meta = NUCLEUS
    metrics = evaluate(metric, [sample_of(1, maps[0], np.ones(count))])
    assert (metrics['segm_mAP'], metrics['segm_mAP_all']) == (of_coco, 1.0)
