"""The metric that writes the report of a test."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from references.mask_cases import encode, predict_rows, write_rows
from report_page import ReportPage

from mmseg_instancenet.report import HTMLReport

CLASSES = ('cat', 'dog')
ROWS = {1: [('cat', '###.......'), ('dog', '....##....')], 2: [('dog', '.......###')], 3: []}
FOUND = {1: [(0, 0.9, '###.......'), (1, 0.7, '....###...')], 2: [(0, 0.8, '.......###')], 3: []}


@pytest.fixture
def samples(tmp_path):
    """Data samples with an annotation file, and with label maps as well."""
    ann_file = write_rows(tmp_path, ROWS, CLASSES)
    samples = []
    for number, objects in ROWS.items():
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((1, 10, 3), 100, np.uint8))
        instance_HW, class_HW = np.zeros((2, 1, 10), np.int64)
        for place, (name, row) in enumerate(objects, 1):
            inside_W = np.array([pixel == '#' for pixel in row])
            instance_HW[0, inside_W], class_HW[0, inside_W] = place, CLASSES.index(name) + 1
        maps = {'gt_instance_map': instance_HW, 'gt_sem_seg': class_HW}
        samples.append(
            predict_rows(number, FOUND[number])
            | {'ann_file': ann_file, 'img_path': str(tmp_path / f'{number}.png')}
            | {name: {'data': torch.from_numpy(map_HW)[None]} for name, map_HW in maps.items()}
        )
    return samples


def write(out, samples, **settings):
    evaluator = Evaluator([dict(type='mmseg.HTMLReport', out=str(out), **settings)])
    evaluator.dataset_meta = {'classes': CLASSES}
    for sample in samples:
        evaluator.process([sample], {})
    assert evaluator.evaluate(len(samples)) == {}


@pytest.mark.parametrize(('out', 'file'), [('new/a.html', 'new/a.html'), ('folder', 'folder/report.html')])
def test_file_or_folder(samples, tmp_path, out, file):
    write(tmp_path / out, samples, title='A title', facts={'config': 'a.py'})
    page = ReportPage(tmp_path / file)
    assert page.root.find('.//h1').text == 'A title'
    assert list(page.facts) == ['config', 'date', 'images', 'objects', 'detections']
    assert [page.facts[name] for name in ('config', 'images', 'objects', 'detections')] == ['a.py', '3', '3', '3']
    # One of two dogs is found, at 2/3: four of ten thresholds; the wrong class is a false positive of the cats, after the hit.
    assert page.row('Average precision by class and size', 'cat')['AP'] == '1.000'
    assert page.row('Average precision by class and size', 'dog')['AP'] == f'{0.4 * 51 / 101:.3f}'
    assert page.tables['Number of errors'][3] == ['classes', '1']


def test_label_maps_give_the_same_report(samples, tmp_path):
    write(tmp_path / 'a.html', samples)
    write(
        tmp_path / 'b.html',
        [{k: v for k, v in sample.items() if k not in ('ann_file', 'img_id')} for sample in samples],
    )
    of_file, of_maps = (ReportPage(tmp_path / name) for name in ('a.html', 'b.html'))
    assert of_file.tables == of_maps.tables
    assert [image.get('src') for image in of_file.images] == [image.get('src') for image in of_maps.images]


def test_no_image(tmp_path):
    write(tmp_path, [])
    assert ReportPage(tmp_path / 'report.html').facts['images'] == '0'


@pytest.mark.parametrize(
    ('missing', 'remedy'), [('pred_instances', 'a model that finds boundaries'), ('img_path', 'meta_keys')]
)
def test_an_incomplete_sample_is_refused(samples, tmp_path, missing, remedy):
    metric = HTMLReport(tmp_path)
    metric.dataset_meta = {'classes': CLASSES}
    del samples[0][missing]
    with pytest.raises(ValueError, match=f'HTMLReport needs {missing}, and got .*{remedy}'):
        metric.process({}, samples)


def test_void_is_no_part_of_a_detection(samples, tmp_path):
    """The label maps have void where the dog of image 1 is detected too large."""
    sample = {key: value for key, value in samples[0].items() if key != 'ann_file'}
    sample['gt_instance_map']['data'][..., 6] = -1
    sample['gt_sem_seg']['data'][..., 6] = 255
    write(tmp_path, [sample])
    page = ReportPage(tmp_path / 'report.html')
    assert page.row('Average precision by class and size', 'dog')['AP'] == '1.000'
    assert encode(FOUND[1][1][2]) != encode(ROWS[1][1][1])
