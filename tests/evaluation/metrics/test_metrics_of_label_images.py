"""A set of label images and the same set as a COCO json give the same metrics, to the last bit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from label_folders import labels, write, write_image
from mmengine.structures import InstanceData
from mmseg.registry import DATASETS
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from mmseg_instancenet.evaluation import CocoInstanceMetric

PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadInstanceMasks'},
    {'type': 'MasksToMaps'},
    {'type': 'PackInstanceMaps'},
]


def json_of(root: Path, masks: dict[str, list[np.ndarray]], void: dict[str, np.ndarray]) -> Path:
    """A COCO json of bool masks."""
    content = {'images': [], 'annotations': [], 'categories': [{'id': 4, 'name': 'cell'}, {'id': 9, 'name': 'void'}]}
    for name, of_image in masks.items():
        height, width = np.asarray(Image.open(root / f'images/{name}.png')).shape[:2]
        number = len(content['images']) + 10
        content['images'].append({'id': number, 'file_name': f'{name}.png', 'height': height, 'width': width})
        ignored = [void[name]] if name in void else []
        for mask_HW in [*of_image, *ignored]:
            rle = coco_mask.encode(np.asfortranarray(mask_HW, np.uint8))
            is_void = name in void and mask_HW is void[name]
            content['annotations'].append(
                {
                    'id': len(content['annotations']) + 1,
                    'image_id': number,
                    'category_id': 9 if is_void else 4,
                    'iscrowd': int(is_void),
                    'area': int(mask_HW.sum()),
                    'bbox': coco_mask.toBbox(rle).tolist(),
                    'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode()},
                }
            )
    path = root / 'instances.json'
    path.write_text(json.dumps(content))
    return path


def metrics(dataset, predictions: dict[str, list[np.ndarray]]) -> dict:
    metric = CocoInstanceMetric(metric=['segm', 'bbox'])
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        masks = torch.from_numpy(np.array(predictions[Path(sample.img_path).stem]))
        boxes = coco_mask.toBbox([coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks.numpy()])
        boxes[:, 2:] += boxes[:, :2]
        found = InstanceData(
            masks=masks,
            bboxes=torch.from_numpy(boxes).float(),
            scores=torch.linspace(1, 0.2, len(masks)),
            labels=torch.zeros(len(masks), dtype=torch.long),
        )
        metric.process({}, [{**sample.metainfo, 'pred_instances': found}])
    return metric.compute_metrics(metric.results)


def build(root: Path, **settings):
    fields = dict(data_root=str(root), metainfo={'classes': ('cell',)}, pipeline=PIPELINE, test_mode=True)
    return DATASETS.build({**fields, 'serialize_data': False, **settings})


def of_both(root: Path, predictions: dict, **settings) -> tuple[dict, dict]:
    from_json = build(root, type='CocoInstanceDataset', ann_file='instances.json', data_prefix={'img': 'images/'})
    from_images = build(root, type='LabelImageDataset', **settings)
    return metrics(from_images, predictions), metrics(from_json, predictions)


@pytest.mark.parametrize('ignore_label', [None, 9])
def test_a_hand_made_set(tmp_path, ignore_label):
    masks, void, predictions = {}, {}, {}
    for seed in range(3):
        name, values = str(seed), labels(seed)
        write_image(tmp_path / f'images/{name}.png', seed)
        masks[name] = [values == value for value in (3, 7, 200)]
        extra = np.zeros(values.shape, bool)
        extra[22:30, 25:38] = True  # where an object is found that is not annotated
        if ignore_label is not None:
            values = values.copy()
            values[extra] = ignore_label
            void[name] = extra
        write(tmp_path / f'masks/{name}.png', values)
        predictions[name] = [
            np.roll(masks[name][0], 1, axis=1),
            extra,
            masks[name][2],
            np.roll(masks[name][1], 2, axis=0),
        ]
    json_of(tmp_path, masks, void)
    found, expected = of_both(tmp_path, predictions, ignore_label=ignore_label)
    assert found == expected
    assert 0.3 < found['segm_mAP'] < 0.9
    assert (found['segm_mAP_50'] == 1) == (ignore_label is not None)  # the region lies under a false detection


def test_unlabelled_regions_cost_no_precision(tmp_path):
    """An object that is found in an unlabelled region is a false one without ``ignore_label``'s region."""
    values = labels(0)
    write_image(tmp_path / 'images/0.png')
    extra = np.zeros(values.shape, bool)
    extra[22:30, 25:38] = True
    predictions = {'0': [extra, *(values == value for value in (3, 7, 200))]}
    write(tmp_path / 'masks/0.png', np.where(extra, 255, values).astype(np.uint8))
    ignored = metrics(build(tmp_path, type='LabelImageDataset', ignore_label=255), predictions)
    write(tmp_path / 'masks/0.png', values)
    counted = metrics(build(tmp_path, type='LabelImageDataset'), predictions)
    assert (ignored['segm_mAP'], counted['segm_mAP']) == (1.0, 0.75)


def test_nuclei(tmp_path, test_data):
    """Three images of dsb2018, whose masks are written as 16-bit label images; predictions are grown masks."""
    content = json.loads((test_data / 'dsb2018/val.json').read_text())
    masks, predictions = {}, {}
    for entry in content['images'][:3]:
        name = Path(entry['file_name']).stem
        annotations = [one for one in content['annotations'] if one['image_id'] == entry['id']]
        values = np.zeros((entry['height'], entry['width']), np.uint16)
        for number, one in enumerate(annotations, 1):
            values[coco_mask.decode(one['segmentation']) > 0] = number
        write(tmp_path / f'masks/{name}.png', values)
        target = tmp_path / f'images/{name}.png'
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((test_data / 'dsb2018/images' / entry['file_name']).read_bytes())
        masks[name] = [values == number for number in np.unique(values[values > 0])]
        predictions[name] = [ndimage.binary_dilation(mask) for mask in masks[name]]
    json_of(tmp_path, masks, {})
    found, expected = of_both(tmp_path, predictions)
    assert found == expected and 0.1 < found['segm_mAP'] < 0.99
