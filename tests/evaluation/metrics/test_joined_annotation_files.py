"""Metrics of joined data sets equal those of one file with all images, whatever the ids in each."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from references.mask_cases import read_fakesegm

from mmseg_instancenet.datasets.digits import write_digits
from mmseg_instancenet.evaluation.functional.annotation_files import join

METRICS = {
    'CocoInstanceMetric': dict(type='CocoInstanceMetric', metric='segm'),
    'CocoInstanceMetric of boxes, by class': dict(type='CocoInstanceMetric', metric=['segm', 'bbox'], classwise=True),
    'RegionAveragePrecisionMetric': dict(type='RegionAveragePrecisionMetric', classwise=True),
    'ProposalRecallMetric': dict(type='ProposalRecallMetric'),
}


def in_parts(ann_file, samples, folder, parts):
    """The file cut into parts whose images are numbered from 1 and whose categories have other ids; the samples, in the same
    order, of the file and of the parts."""
    content = json.loads(Path(ann_file).read_text())
    images = content['images']
    as_one, moved = [], []
    for part, of_part in enumerate(np.array_split([image['id'] for image in images], parts)):
        chosen = {image_id: number for number, image_id in enumerate(of_part.tolist(), 1)}
        category = {entry['id']: 200 * part + entry['id'] for entry in content['categories']}
        path = folder / f'part_{part}.json'
        path.write_text(
            json.dumps(
                {
                    'images': [{**image, 'id': chosen[image['id']]} for image in images if image['id'] in chosen],
                    'annotations': [
                        {**entry, 'image_id': chosen[entry['image_id']], 'category_id': category[entry['category_id']]}
                        for entry in content['annotations']
                        if entry['image_id'] in chosen
                    ],
                    'categories': [{**entry, 'id': category[entry['id']]} for entry in content['categories']],
                }
            )
        )
        for sample in samples:
            if sample['img_id'] in chosen:
                moved.append({**sample, 'img_id': chosen[sample['img_id']], 'ann_file': str(path)})
                as_one.append({**sample, 'ann_file': ann_file})
    return as_one, moved


@pytest.mark.parametrize('name', METRICS)
@pytest.mark.parametrize('parts', [2, 3])
def test_joined_files_against_one(test_data, tmp_path, name, parts):
    init_default_scope('mmseg')
    ann_file, categories, samples = read_fakesegm(test_data)
    results = []
    for of_files in in_parts(ann_file, samples, tmp_path, parts):
        evaluator = Evaluator([METRICS[name]])
        evaluator.dataset_meta = {'classes': tuple(category['name'] for category in categories)}
        for sample in of_files:
            evaluator.process([sample], {})
        results.append(evaluator.evaluate(len(samples)))
    # Proposals in random order are drawn by the id of their image; a curve is a dict.
    one, joined = (
        {key: value for key, value in result.items() if 'random' not in key and isinstance(value, float)}
        for result in results
    )
    assert joined == pytest.approx(one, nan_ok=True) and len(one) > 3


def test_areas_are_those_of_the_file(test_data, tmp_path):
    """COCO's own are those of polygons; objects count as small or large by them."""
    init_default_scope('mmseg')
    ann_file, categories, samples = read_fakesegm(test_data)
    content = json.loads(Path(ann_file).read_text())
    for annotation in content['annotations']:
        annotation['area'] = 1e6
    (tmp_path / 'large.json').write_text(json.dumps(content))
    evaluator = Evaluator([METRICS['CocoInstanceMetric']])
    evaluator.dataset_meta = {'classes': tuple(category['name'] for category in categories)}
    for sample in samples:
        evaluator.process([{**sample, 'ann_file': str(tmp_path / 'large.json')}], {})
    results = evaluator.metrics[0].results.copy()
    metrics = evaluator.evaluate(len(samples))
    assert metrics['coco/segm_mAP_s'] == metrics['coco/segm_mAP_m'] == -1 and metrics['coco/segm_mAP_l'] > 0
    # The results have the name of the file: another process may have collected them.
    (other,) = Evaluator([METRICS['CocoInstanceMetric']]).metrics
    other.dataset_meta = evaluator.dataset_meta
    assert other.compute_metrics(results)['segm_mAP_l'] == metrics['coco/segm_mAP_l']


def test_images_with_and_without_a_file_are_refused(test_data):
    init_default_scope('mmseg')
    _, categories, samples = read_fakesegm(test_data)
    evaluator = Evaluator([METRICS['CocoInstanceMetric']])
    evaluator.dataset_meta = {'classes': tuple(category['name'] for category in categories)}
    metric = evaluator.metrics[0]
    metric.results = [({'img_id': 1, 'ann_file': name}, {'labels': [1]}) for name in (None, 'a.json')]
    with pytest.raises(ValueError, match='1 of 2 without an annotation file'):
        metric.compute_metrics(metric.results)


def test_the_size_of_an_image_against_that_of_the_file(test_data):
    init_default_scope('mmseg')
    ann_file, categories, samples = read_fakesegm(test_data)
    evaluator = Evaluator([METRICS['CocoInstanceMetric']])
    evaluator.dataset_meta = {'classes': tuple(category['name'] for category in categories)}
    height, width = samples[0]['ori_shape']
    sample = {**samples[0], 'ann_file': ann_file, 'ori_shape': (width, height)}
    with pytest.raises(ValueError, match=rf'\({height}, {width}\), got an image of \({width}, {height}\)'):
        evaluator.process([sample], {})


JOINED = """
_base_ = ['CONFIGS/_base_/models/instancenet_unet.py', 'CONFIGS/_base_/default_runtime.py']
pipeline = [dict(type=name) for name in ('LoadImageFromFile', 'LoadInstanceMasks', 'MasksToMaps', 'PackInstanceMaps')]
one = dict(type='DigitsDataset', data_prefix=dict(img='val/'), ann_file='val.json', test_mode=True, pipeline=pipeline)
test_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
    type='ConcatDataset', datasets=[dict(data_root='FOLDER/a/', **one), dict(data_root='FOLDER/b/', **one)]))
test_evaluator = [dict(type='CocoInstanceMetric', metric='segm'), dict(type='RegionAveragePrecisionMetric')]
work_dir = 'FOLDER/run'
train_cfg = val_cfg = None
"""


def test_joined_data_sets_in_a_run(tmp_path):
    """mmengine's ConcatDataset of two digits sets whose images have the same ids."""
    for name, seed in (('a', 0), ('b', 1)):
        write_digits(tmp_path / name, num_train=1, num_val=3 + seed)
    configs = Path(__file__).parents[3] / 'configs'
    config = Config.fromstring(JOINED.replace('CONFIGS', str(configs)).replace('FOLDER', str(tmp_path)), '.py')
    runner = Runner.from_cfg(config)
    metrics = runner.test()
    assert metrics['coco/segm_mAP'] >= 0
    coco, number_of = join(runner.test_evaluator.metrics[0]._files._opened, list(map(str, range(10))))
    assert len(coco.imgs) == len(number_of) == 7
