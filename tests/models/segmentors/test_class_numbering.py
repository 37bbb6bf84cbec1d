"""Class maps without a background, things and stuff."""

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoPanopticMetric
from mmdet.structures import DetDataSample
from mmengine.fileio import dump
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from PIL import Image

from mmseg_instancenet.evaluation import CocoInstanceMetric, ForegroundIoUMetric
from mmseg_instancenet.models.segmentors.class_numbering import ClassNumbering

SIZE = (24, 32)
CLASSES = ('car', 'road', 'person', 'sky')
"""Things are the first and the third."""


def scene(first=0):
    """Two cars that touch, a person and another one on the road under the sky: classes from ``first``, ids."""
    classes, ids = np.full(SIZE, 1 + first), np.zeros(SIZE, int)
    classes[:6] = 3 + first
    for number, (label, rows, columns) in enumerate(
        [(0, (8, 16), (4, 12)), (0, (8, 16), (12, 20)), (2, (4, 20), (24, 27)), (2, (4, 20), (28, 31))], start=1
    ):
        classes[slice(*rows), slice(*columns)], ids[slice(*rows), slice(*columns)] = label + first, number
    return classes, ids


def model_of(classes, ids, num_classes, **settings):
    """A model whose network gives these classes, and embeddings that tell the ids apart."""
    model = MODELS.build(
        dict(
            type='EmbeddingSegmentor',
            data_preprocessor=dict(type='InstanceMapDataPreprocessor'),
            backbone=dict(type='ResNetV1c', depth=18, base_channels=4, norm_cfg=dict(type='BN')),
            decode_head=dict(type='FCNHead', in_channels=4, in_index=0, channels=8, num_convs=1, num_classes=num_classes,
                             norm_cfg=dict(type='BN')),
            embedding=dict(dims=2, loss=dict(type='DiscriminativeLoss')),
            grouper=dict(type='CenterGrouping', threshold=1.2),
            **settings,
        )
    ).eval()  # fmt: skip
    scores = torch.eye(num_classes)[torch.from_numpy(classes)].permute(2, 0, 1)[None] * 20
    embeddings = torch.from_numpy(np.stack([ids * 9.0, ids * 0.0])).float()[None]
    model.scores_and_embeddings = lambda *_: (scores, embeddings)
    return model


def predict(model, classes, ids):
    sample = DetDataSample(metainfo=dict(ori_shape=SIZE, img_shape=SIZE, img_id=1))
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(classes)[None])
    sample.gt_instance_map = PixelData(data=torch.from_numpy(ids)[None])
    return model.predict(torch.zeros(1, 3, *SIZE), [sample])[0]


@pytest.mark.parametrize('background', [False, True])
def test_things_are_grouped_and_stuff_keeps_its_class(background):
    classes, ids = scene(first=int(background))
    model = model_of(classes, ids, 4 + background, background=background, thing_classes=[0, 2])
    result = predict(model, classes, ids)
    assert np.array_equal(result.pred_sem_seg.data[0].numpy(), classes)
    found = result.pred_instance_map.data[0].numpy()
    pairs = {(a, b) for a, b in zip(ids.ravel(), found.ravel(), strict=True)}
    assert len(pairs) == 5 and (0, 0) in pairs
    assert sorted(result.pred_instances.labels.tolist()) == [0, 0, 2, 2]
    panoptic = result.pred_panoptic_seg.sem_seg[0].numpy()
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            number = found[row, column]
            label = classes[row, column] - background
            expected = int(result.pred_instances.labels[number - 1]) + 1000 * number if number else label
            assert panoptic[row, column] == expected


def test_without_stuff_there_is_no_panoptic_map():
    classes, ids = scene()
    assert 'pred_panoptic_seg' not in predict(model_of(classes, ids, 4, background=False), classes, ids)
    assert 'pred_panoptic_seg' not in predict(model_of(classes + 1, ids, 5), classes + 1, ids)


def test_background_and_things_without_an_instance_are_void():
    numbering = ClassNumbering.of(4, background=True, thing_classes=[0])
    classes = torch.tensor([[0, 1, 1, 2, 3, 255]])
    panoptic = numbering.panoptic(classes, torch.tensor([[0, 0, 2, 0, 0, 0]]), torch.tensor([0, 0]))
    assert panoptic.tolist() == [[3, 3, 2000, 1, 2, 3]]


def test_every_class_is_a_thing_unless_told_otherwise():
    assert ClassNumbering.of(3, True, None).things(torch.tensor([0, 1, 2, 255])).tolist() == [0, 1, 2, 255]
    assert ClassNumbering.of(3, False, None).things(torch.tensor([0, 1, 2, 255])).tolist() == [1, 2, 3, 255]
    for things in ([3], [-1], [1, 1]):
        with pytest.raises(ValueError, match=r'different numbers 0 .. 2'):
            ClassNumbering.of(4, True, things)


def test_ap_of_maps_without_a_background():
    """The metric reads from the prediction that class 0 is the first class."""
    classes, ids = scene()
    metric = CocoInstanceMetric()
    metric.dataset_meta = dict(classes=CLASSES)
    result = predict(model_of(classes, ids, 4, background=False, thing_classes=[0, 2]), classes, ids)
    metric.process({}, [result.to_dict()])
    metrics = metric.evaluate(1)
    assert metrics['coco/segm_mAP'] == 1.0
    with pytest.raises(ValueError, match="mmseg's IoUMetric"):
        ForegroundIoUMetric().process({}, [result.to_dict()])


def test_mmdets_panoptic_metric_reads_the_result(tmp_path):
    """Panoptic quality of a perfect prediction is 100, of things and of stuff."""
    pytest.importorskip('panopticapi', reason='panopticapi, which mmdet counts panoptic quality with, is not on PyPI')
    classes, ids = scene()
    categories = [dict(id=k, name=name, isthing=int(k in (0, 2))) for k, name in enumerate(CLASSES)]
    segments, truth = [], np.zeros((*SIZE, 3), np.uint8)
    for number, (label, inside) in enumerate(
        [
            *((int(classes[ids == k][0]), ids == k) for k in range(1, 5)),
            *((c, (classes == c) & (ids == 0)) for c in (1, 3)),
        ],
        start=1,
    ):
        truth[inside] = (number, 0, 0)
        rows, columns = np.nonzero(inside)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        segments.append(
            dict(id=number, category_id=label, area=int(inside.sum()), bbox=[int(v) for v in box], iscrowd=0)
        )
    Image.fromarray(truth).save(tmp_path / 'one.png')
    image = dict(id=1, file_name='one.jpg', height=SIZE[0], width=SIZE[1])
    annotation = dict(image_id=1, file_name='one.png', segments_info=segments)
    dump(dict(images=[image], annotations=[annotation], categories=categories), tmp_path / 'truth.json')
    metric = CocoPanopticMetric(
        ann_file=str(tmp_path / 'truth.json'), seg_prefix=str(tmp_path), outfile_prefix=str(tmp_path / 'out'), nproc=1
    )
    metric.dataset_meta = dict(classes=CLASSES, thing_classes=('car', 'person'), stuff_classes=('road', 'sky'))
    sample = predict(model_of(classes, ids, 4, background=False, thing_classes=[0, 2]), classes, ids)
    sample.set_metainfo(dict(img_path='one.jpg', segm_file='one.png'))
    metric.process({}, [sample.to_dict()])
    metrics = metric.evaluate(1)
    assert [metrics[f'coco_panoptic/PQ{kind}'] for kind in ('', '_th', '_st')] == pytest.approx([100, 100, 100])
