"""Images of one row, small enough to be followed by eye: '##..' is a mask of the two left of four pixels."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask


def encode(row: str) -> dict:
    return coco_mask.encode(np.asfortranarray([[pixel == '#' for pixel in row]], np.uint8))


def write_rows(
    folder: Path, images: dict[int, Sequence[tuple]], classes: Sequence[str], size: tuple[int, int] = (1, 10)
) -> str:
    """A COCO json; an image is a list of (class, mask) and (class, mask, iscrowd)."""
    annotations = []
    for image_id, objects in images.items():
        for name, row, *crowd in objects:
            mask = encode(row)
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image_id,
                    'category_id': classes.index(name) + 1,
                    'iscrowd': int(bool(crowd and crowd[0])),
                    'area': float(coco_mask.area(mask)),
                    'bbox': coco_mask.toBbox(mask).tolist(),
                    'segmentation': {'size': mask['size'], 'counts': mask['counts'].decode()},
                }
            )
    entries = [
        {'id': image_id, 'file_name': f'{image_id}.png', 'height': size[0], 'width': size[1]} for image_id in images
    ]
    categories = [{'id': number, 'name': name} for number, name in enumerate(classes, 1)]
    path = folder / 'rows.json'
    path.write_text(json.dumps({'images': entries, 'annotations': annotations, 'categories': categories}))
    return str(path)


def predict_rows(image_id: int, detections: Sequence[tuple[int, float, str]], size: tuple[int, int] = (1, 10)) -> dict:
    """A data sample in the form in which a metric receives it; a detection is (label, score, mask)."""
    return {
        'img_id': image_id,
        'ori_shape': size,
        'pred_instances': {
            'bboxes': torch.zeros(len(detections), 4),
            'scores': torch.tensor([score for _, score, _ in detections]),
            'labels': torch.tensor([label for label, _, _ in detections], dtype=torch.long),
            'masks': [encode(row) for _, _, row in detections],
        },
    }


def read_fakesegm(test_data: Path) -> tuple[str, list[dict], list[dict]]:
    """Annotation file, its categories and data samples of cocoapi's 100 images with detections."""
    folder = test_data / 'coco_fakesegm'
    ann_file = folder / 'instances_val2014_100.json'
    truth = json.loads(ann_file.read_text())
    label_of = {category['id']: label for label, category in enumerate(truth['categories'])}
    samples = {
        image['id']: {
            'img_id': image['id'],
            'ori_shape': (image['height'], image['width']),
            'pred_instances': [],
        }
        for image in truth['images']
    }
    for detection in json.loads((folder / 'instances_val2014_fakesegm100_results.json').read_text()):
        samples[detection['image_id']]['pred_instances'].append(detection)
    for sample in samples.values():
        detections = sample['pred_instances']
        sample['pred_instances'] = {
            'bboxes': torch.zeros(len(detections), 4),
            'scores': torch.tensor([d['score'] for d in detections], dtype=torch.float64),
            'labels': torch.tensor([label_of[d['category_id']] for d in detections], dtype=torch.long),
            'masks': [d['segmentation'] for d in detections],
        }
    # COCO goes through the images by their ids, which decides among equal scores.
    return str(ann_file), truth['categories'], [samples[image_id] for image_id in sorted(samples)]
