"""``CocoInstanceMetric`` without a json: the metrics are those of the same objects in a json, to the last digit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from references.mask_cases import predict_rows

from mmseg_instancenet.datasets.transforms import masks_to_maps
from mmseg_instancenet.evaluation import CocoInstanceMetric

ITEMS = [
    *('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'),
    *('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000'),
]


def annotation(mask_HW: np.ndarray, image_id: int, category_id: int, number: int, iscrowd: int = 0) -> dict:
    mask = coco_mask.encode(np.asfortranarray(mask_HW, np.uint8))
    return {
        'id': number,
        'image_id': image_id,
        'category_id': category_id,
        'iscrowd': iscrowd,
        'area': int(mask_HW.sum()),
        'bbox': coco_mask.toBbox(mask).tolist(),
        'segmentation': {'size': mask['size'], 'counts': mask['counts'].decode()},
    }


def write_maps(folder: Path, maps: dict[int, tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...]) -> str:
    """A COCO json with the objects of instance maps and class maps, one comparison of pixels each, and their void."""
    void_id = len(classes) + 1
    images, annotations = [], []
    for image_id, (instance_map, class_map) in maps.items():
        height, width = instance_map.shape
        images.append({'id': image_id, 'file_name': f'{image_id}.png', 'height': height, 'width': width})
        for id_ in sorted({*instance_map.ravel().tolist()} - {0, -1}):
            inside = instance_map == id_
            (class_,) = {*class_map[inside].tolist()}
            annotations.append(annotation(inside, image_id, class_, len(annotations) + 1))
        if (instance_map == -1).any():
            annotations.append(annotation(instance_map == -1, image_id, void_id, len(annotations) + 1, iscrowd=1))
    categories = [{'id': number, 'name': name} for number, name in enumerate((*classes, 'void'), 1)]
    path = folder / 'maps.json'
    path.write_text(json.dumps({'images': images, 'annotations': annotations, 'categories': categories}))
    return str(path)


def with_maps(sample: dict, instance_map: np.ndarray, class_map: np.ndarray) -> dict:
    """The data sample of a set without a json: two label maps, no ``img_id``."""
    maps = {'gt_instance_map': instance_map, 'gt_sem_seg': class_map}
    fields = {name: {'data': torch.from_numpy(map_HW)[None]} for name, map_HW in maps.items()}
    return {key: value for key, value in sample.items() if key != 'img_id'} | fields


def metrics_of(metric: CocoInstanceMetric, samples: list[dict]) -> dict[str, float]:
    for sample in samples:
        metric.process({}, [dict(sample)])
    return metric.evaluate(len(samples))


def test_real_masks(test_data, tmp_path):
    """cocoapi's 100 images with 734 detections: crowds are void; one image loses its objects."""
    folder = test_data / 'coco_fakesegm'
    coco = COCO(folder / 'instances_val2014_100.json')
    category_ids = coco.getCatIds()
    classes = tuple(category['name'] for category in coco.loadCats(category_ids))
    detections = json.loads((folder / 'instances_val2014_fakesegm100_results.json').read_text())
    maps, samples = {}, []
    for image_id in sorted(coco.imgs):
        annotations = coco.imgToAnns[image_id] if image_id != min(coco.imgs) else []
        size = coco.imgs[image_id]['height'], coco.imgs[image_id]['width']
        maps[image_id] = instance_map, class_map = masks_to_maps(
            BitmapMasks([coco.annToMask(a) for a in annotations], *size),
            np.array([category_ids.index(a['category_id']) for a in annotations], int),
            np.array([a['iscrowd'] for a in annotations], bool),
        )[::-1]
        found = [d for d in detections if d['image_id'] == image_id]
        box_K4 = np.array([coco_mask.toBbox(d['segmentation']) for d in found]).reshape(-1, 4)
        box_K4[:, 2:] += box_K4[:, :2]
        instances = {
            'bboxes': torch.from_numpy(box_K4),
            'scores': torch.tensor([d['score'] for d in found]),
            'labels': torch.tensor([category_ids.index(d['category_id']) for d in found], dtype=torch.long),
            'masks': [dict(d['segmentation']) for d in found],
        }
        samples.append({'img_id': image_id, 'ori_shape': size, 'pred_instances': instances})
    assert sum(bool((instance_map == -1).any()) for instance_map, _ in maps.values()) > 3
    settings = dict(metric_items=ITEMS, classwise=True)
    of_json = CocoInstanceMetric(ann_file=write_maps(tmp_path, maps, classes), **settings)
    of_maps = CocoInstanceMetric(**settings)
    of_json.dataset_meta = of_maps.dataset_meta = {'classes': classes}
    expected = metrics_of(of_json, samples)
    found = metrics_of(of_maps, [with_maps(sample, *maps) for sample, maps in zip(samples, maps.values(), strict=True)])
    assert 0.2 < expected['coco/segm_mAP'] < 0.5
    of_sizes = [expected[f'coco/segm_mAP_{size}'] for size in 'sml']  # by the areas of the masks
    assert min(of_sizes) > 0 and len({*of_sizes}) == 3
    np.testing.assert_equal(found, expected)  # NaN equals itself: a class without objects


CLASSES = ('cat', 'dog')
ROWS = [
    # instance map, class map, detections (label, score, mask); x in the maps is void
    ('1111..2222', 'cccc..dddd', [(0, 0.9, '####......'), (1, 0.8, '......####'), (1, 0.7, '####......')]),
    ('33xx....44', 'ddxx....cc', [(1, 0.6, '######....'), (0, 0.5, '........#.'), (0, 0.4, '..##......')]),
    ('..........', '..........', [(0, 0.3, '##........')]),
]


def row_maps(instances: str, classes: str) -> tuple[np.ndarray, np.ndarray]:
    instance_of = {'.': 0, 'x': -1, **{str(number): number for number in range(1, 5)}}
    class_of = {'.': 0, 'x': 255, 'c': 1, 'd': 2}
    return np.array([[instance_of[c] for c in instances]]), np.array([[class_of[c] for c in classes]])


def two_class_samples() -> list[dict]:
    return [
        with_maps(predict_rows(number, detections), *row_maps(instances, classes))
        for number, (instances, classes, detections) in enumerate(ROWS)
    ]


def build(**settings) -> CocoInstanceMetric:
    metric = CocoInstanceMetric(**{'metric': 'segm', 'classwise': True, **settings})
    metric.dataset_meta = {'classes': CLASSES}
    return metric


def test_two_classes(tmp_path):
    ann_file = write_maps(tmp_path, {n: row_maps(*row[:2]) for n, row in enumerate(ROWS)}, CLASSES)
    samples = [dict(sample, img_id=number) for number, sample in enumerate(two_class_samples())]
    expected = metrics_of(build(ann_file=ann_file), samples)
    found = metrics_of(build(), two_class_samples())
    np.testing.assert_equal(found, expected)
    # cat: objects of 4 and 2 pixels; hits at .9 (IoU 1) and .5 (IoU 1/2, a hit at the threshold 0.5 alone), and the detection on
    # void alone is none. 51 of 101 recall steps at nine thresholds, all of them at one.
    assert found['coco/cat_precision'] == round((9 * 51 / 101 + 1) / 10, 3)
    # dog: at .8 a hit, at .7 a miss, at .6 half of what the void leaves is right: at 0.5 a hit with precision 2/3.
    assert found['coco/dog_precision'] == round((9 * 51 / 101 + (51 + 50 * 2 / 3) / 101) / 10, 3)


def test_data_samples_of_mmseg():
    """Samples packed by mmseg's transforms, without an ``img_id``, in the form in which a metric receives them."""
    evaluator = Evaluator([dict(type='CocoInstanceMetric', metric='segm', classwise=True)])
    evaluator.dataset_meta = {'classes': CLASSES}
    for sample in two_class_samples():
        of_mmseg = SegDataSample(metainfo={'ori_shape': sample['ori_shape'], 'img_path': 'row.png'})
        for name in ('gt_instance_map', 'gt_sem_seg'):
            of_mmseg.set_field(PixelData(**sample[name]), name, dtype=PixelData)
        of_mmseg.set_field(InstanceData(**sample['pred_instances']), 'pred_instances', dtype=InstanceData)
        evaluator.process([of_mmseg])
    np.testing.assert_equal(evaluator.evaluate(len(ROWS)), metrics_of(build(), two_class_samples()))


def test_each_evaluation_has_its_own_truth():
    """A training evaluates with one metric again and again; mmdet's would keep the truth of the first time."""
    metric, samples = build(), two_class_samples()
    first = metrics_of(metric, samples)
    perfect = predict_rows(0, [(0, 0.9, '####......'), (1, 0.8, '......####')])
    assert metrics_of(metric, [with_maps(perfect, *row_maps(*ROWS[0][:2]))])['coco/segm_mAP'] == 1
    assert metric.results == []
    np.testing.assert_equal(metrics_of(metric, samples), first)


@pytest.mark.parametrize('ids', [[None, None, None], [1, None, 2], [5, 5, 6]], ids=['none', 'some', 'repeated'])
def test_images_without_an_id_of_their_own_are_numbered(ids):
    """Joined data sets repeat ids; two images under one id would share their objects and detections."""
    samples = [
        sample if id_ is None else dict(sample, img_id=id_)
        for id_, sample in zip(ids, two_class_samples(), strict=True)
    ]
    np.testing.assert_equal(metrics_of(build(), samples), metrics_of(build(), two_class_samples()))


def test_ids_of_the_data_set_are_written(tmp_path):
    metric = build(outfile_prefix=str(tmp_path / 'found'))
    metrics_of(
        metric, [dict(sample, img_id=id_) for id_, sample in zip((30, 20, 10), two_class_samples(), strict=True)]
    )
    truth = json.loads((tmp_path / 'found.gt.json').read_text())
    assert [image['id'] for image in truth['images']] == [30, 20, 10]
    assert [(a['image_id'], a['category_id'], a['area']) for a in truth['annotations']] == [
        *((30, 0, 4), (30, 1, 4), (20, 1, 2), (20, 0, 2))
    ]


def test_missing_ground_truth_is_reported():
    sample = two_class_samples()[0]
    del sample['gt_sem_seg']
    with pytest.raises(ValueError, match='neither an ann_file nor gt_sem_seg .*CocoInstanceDataset .*PackInstanceMaps'):
        build().process({}, [sample])
    del sample['gt_instance_map']
    with pytest.raises(ValueError, match='neither an ann_file nor gt_instance_map and gt_sem_seg'):
        build().process({}, [sample])


def test_maps_of_another_size_and_images_that_a_json_cannot_find(tmp_path):
    sample = dict(two_class_samples()[0], ori_shape=(2, 20))
    with pytest.raises(ValueError, match=r'gt_instance_map at the original size \(2, 20\) .* got \(1, 10\)'):
        build().process({}, [sample])
    ann_file = write_maps(tmp_path, {0: row_maps(*ROWS[0][:2])}, CLASSES)
    with pytest.raises(ValueError, match='finds an image in its annotation file by img_id, which .*without ann_file'):
        build(ann_file=ann_file).process({}, two_class_samples())
