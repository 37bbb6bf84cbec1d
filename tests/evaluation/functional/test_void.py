"""Void: found in a json, removed from masks, and without effect on COCO's metrics."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmseg_instancenet.evaluation import CocoInstanceMetric
from mmseg_instancenet.evaluation.functional.void import remove_void, void_masks

HEIGHT, WIDTH = 12, 18


def rle(mask: np.ndarray) -> dict:
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def write_json(folder: Path, entries: list[tuple[int, np.ndarray]], void_name: str = 'void') -> Path:
    """One image (id 7) with entries (category, mask); categories 1, 2 and 255 = void."""
    annotations = []
    for index, (category, mask) in enumerate(entries, 1):
        encoded = rle(mask)
        annotations.append(
            {
                'id': index,
                'image_id': 7,
                'category_id': category,
                'iscrowd': int(category == 255),
                'area': int(mask.sum()),
                'bbox': coco_mask.toBbox(encoded).tolist(),
                'segmentation': {'size': encoded['size'], 'counts': encoded['counts'].decode()},
            }
        )
    content = {
        'images': [{'id': 7, 'file_name': '7.png', 'height': HEIGHT, 'width': WIDTH}],
        'annotations': annotations,
        'categories': [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}, {'id': 255, 'name': void_name}],
    }
    (folder / 'set.json').write_text(json.dumps(content))
    return folder / 'set.json'


def test_size_of_another_image():
    with pytest.raises(ValueError, match=r'expected masks of the size \[12, 18\] of the void, got \[18, 12\]'):
        remove_void([rle(rectangle(0, 0, 3, 3).T)], rle(rectangle(0, 0, 2, 2)))


def test_remove_void_against_single_pixels():
    rng = np.random.default_rng(0)
    masks, void = rng.random((5, HEIGHT, WIDTH)) < 0.5, rng.random((HEIGHT, WIDTH)) < 0.4
    masks[3] &= void  # nothing is left of it
    masks[4] = False
    found = remove_void([rle(mask) for mask in masks], rle(void))
    for index, mask in enumerate(masks):
        expected = [[int(mask[y, x] and not void[y, x]) for x in range(WIDTH)] for y in range(HEIGHT)]
        assert coco_mask.decode(found[index]).tolist() == expected
    assert [int(coco_mask.area(mask)) for mask in found[3:]] == [0, 0]
    assert remove_void([], rle(void)) == []


def test_void_of_a_json_is_found_by_its_name(tmp_path):
    parts = [rectangle(0, 0, 4, 4), rectangle(2, 2, 8, 6)]
    entries = [(1, rectangle(5, 10, 9, 14)), (255, parts[0]), (255, parts[1])]
    found = void_masks(COCO(str(write_json(tmp_path, entries))))
    assert list(found) == [7]
    np.testing.assert_array_equal(coco_mask.decode(found[7]), parts[0] | parts[1])
    assert void_masks(COCO(str(write_json(tmp_path, entries, 'person')))) == {}
    assert void_masks(COCO(str(write_json(tmp_path, entries[:1])))) == {}


def test_list_of_images_without_annotations():
    coco = COCO()
    coco.dataset = {'images': [], 'categories': [{'id': 255, 'name': 'void'}]}
    assert void_masks(coco) == {}


def coco_metrics(ann_file: Path, detections: list[tuple[int, float, np.ndarray]]) -> dict[str, float]:
    """Metrics for detections (label, score, mask) of the image."""
    metric = CocoInstanceMetric(ann_file=str(ann_file))
    metric.dataset_meta = {'classes': ('a', 'b')}
    boxes = np.array([coco_mask.toBbox(rle(mask)) for _, _, mask in detections]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances = {
        'bboxes': torch.from_numpy(boxes),
        'scores': torch.tensor([score for _, score, _ in detections]),
        'labels': torch.tensor([label for label, _, _ in detections], dtype=torch.long),
        'masks': [rle(mask) for _, _, mask in detections],
    }
    metric.process({}, [{'img_id': 7, 'ori_shape': (HEIGHT, WIDTH), 'pred_instances': instances}])
    return metric.evaluate(1)


def test_coco_metrics_do_not_depend_on_the_void(tmp_path):
    """An object of 4 x 4 with a border of void to its right: reaching into the border must not cost, nor add."""
    thing, border = rectangle(2, 2, 6, 6), rectangle(2, 6, 6, 10)
    ann_file = write_json(tmp_path, [(1, thing), (255, border)])
    exact = coco_metrics(ann_file, [(0, 0.9, thing)])
    assert exact['coco/segm_mAP'] == exact['coco/bbox_mAP'] == exact['coco/segm_mAP_all'] == 1
    # IoU 1/2 in mask and in box if the void counted.
    assert coco_metrics(ann_file, [(0, 0.9, thing | border)]) == exact
    # A mask in the void alone, better scored and of a class that is not in the image, is no detection.
    assert coco_metrics(ann_file, [(0, 0.9, thing), (1, 0.95, border), (0, 0.99, border)]) == exact
    # Without a category void the same is half right.
    plain = coco_metrics(write_json(tmp_path, [(1, thing)]), [(0, 0.9, thing | border)])
    assert plain['coco/segm_mAP'] == plain['coco/bbox_mAP'] == 0.1  # right at IoU 0.5 alone, of ten


def test_nothing_but_void_is_predicted(tmp_path):
    ann_file = write_json(tmp_path, [(1, rectangle(2, 2, 6, 6)), (255, rectangle(2, 6, 6, 10))])
    metrics = coco_metrics(ann_file, [(0, 0.9, rectangle(2, 6, 6, 10))])
    assert metrics['coco/segm_mAP'] == metrics['coco/bbox_mAP'] == 0
