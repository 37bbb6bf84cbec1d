"""The file that ``tools/test.py --out`` writes."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData, PixelData
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmseg_instancenet.structures import labels_to_boxes, labels_to_rle


def data_sample(coco: COCO, image_id: int) -> tuple[DetDataSample, np.ndarray]:
    """The true objects of an image as if a model had found them, its maps beside them, and its label map."""
    info = coco.imgs[image_id]
    annotations = coco.loadAnns(coco.getAnnIds(image_id, iscrowd=False))
    labels_HW = np.zeros((info['height'], info['width']), np.int64)
    for number, annotation in enumerate(annotations, start=1):
        labels_HW[coco.annToMask(annotation) != 0] = number
    _, labels_HW = np.unique(np.append(labels_HW, 0), return_inverse=True)  # an object may be hidden by others
    labels_HW = labels_HW[:-1].reshape(info['height'], info['width'])
    count = int(labels_HW.max())
    sample = DetDataSample(metainfo={'img_id': image_id, 'img_path': info['file_name'], 'ori_shape': labels_HW.shape})
    sample.pred_instances = InstanceData(
        bboxes=labels_to_boxes(torch.from_numpy(labels_HW), count),
        scores=torch.linspace(0.9, 0.1, count),
        labels=torch.arange(count) % 80,
        masks=labels_to_rle(labels_HW, count),
    )
    for name in ('pred_sem_seg', 'pred_instance_map', 'gt_instance_map'):
        sample.set_field(PixelData(data=torch.from_numpy(labels_HW)[None]), name, dtype=PixelData)
    embeddings = PixelData(data=torch.zeros(8, *labels_HW.shape))
    sample.set_field(embeddings, 'pred_embeddings', dtype=PixelData)
    return sample, labels_HW


@pytest.fixture(scope='module')
def dumped(test_data, tmp_path_factory):
    """The file of all images of coco_mini's validation set, and the label maps."""
    path = tmp_path_factory.mktemp('dump') / 'out.pkl'
    coco = COCO(str(test_data / 'coco_mini/val.json'))
    evaluator = Evaluator([{'type': 'mmseg.DetectionsDump', 'out_file_path': str(path)}])
    maps = []
    for image_id in sorted(coco.imgs):
        sample, labels_HW = data_sample(coco, image_id)
        maps.append(labels_HW)
        evaluator.process([sample], {})
    assert evaluator.evaluate(len(maps)) == {}
    return path, maps


def test_an_instance_of_coco_takes_less_than_a_kilobyte(dumped):
    path, maps = dumped
    count = sum(int(labels_HW.max()) for labels_HW in maps)
    assert count > 200 and max(labels_HW.size for labels_HW in maps) >= 640 * 480
    assert path.stat().st_size < 1000 * count


def test_the_detections_are_all_there(dumped):
    path, maps = dumped
    for image, labels_HW in zip(pickle.loads(path.read_bytes()), maps, strict=True):
        count = int(labels_HW.max())
        assert list(image) == ['img_id', 'img_path', 'ori_shape', 'labels', 'scores', 'bboxes', 'masks']
        assert image['ori_shape'] == labels_HW.shape and image['img_path'] == f'{image["img_id"]:012d}.jpg'
        assert image['labels'] == [index % 80 for index in range(count)]
        assert image['scores'] == pytest.approx(torch.linspace(0.9, 0.1, count).tolist())
        assert len(image['bboxes']) == len(image['masks']) == count
        for number, (box, mask) in enumerate(zip(image['bboxes'], image['masks'], strict=True), start=1):
            rows, columns = np.nonzero(labels_HW == number)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.array_equal(coco_mask.decode(mask), labels_HW == number)
            assert isinstance(mask['counts'], str)  # which a json takes, unlike bytes


def test_plain_python_reads_the_file(dumped):
    """An interpreter without site-packages has neither torch nor numpy."""
    code = 'import pickle, sys; print(len(pickle.load(open(sys.argv[1], "rb"))))'
    process = subprocess.run([sys.executable, '-I', '-S', '-c', code, dumped[0]], capture_output=True, text=True)
    assert process.stdout.strip() == str(len(dumped[1])), process.stderr


def test_boundaries_are_no_detections(tmp_path):
    sample = DetDataSample(metainfo={'img_id': 1, 'ori_shape': (2, 3)})
    sample.set_field(PixelData(data=torch.zeros(1, 2, 3)), 'pred_boundary', dtype=PixelData)
    evaluator = Evaluator([{'type': 'mmseg.DetectionsDump', 'out_file_path': str(tmp_path / 'out.pkl')}])
    with pytest.raises(
        ValueError, match='the model gave img_id, ori_shape, pred_boundary: a model that finds boundaries'
    ):
        evaluator.process([sample], {})
