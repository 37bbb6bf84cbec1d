"""Errors of a pipeline name the image."""

import json

import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS
from torch.utils.data import DataLoader

from mmseg_instancenet.datasets import CocoInstanceDataset
from mmseg_instancenet.datasets.named_errors import named_errors


@TRANSFORMS.register_module()
class _FailsAtThree(BaseTransform):
    """A step that does not know the file."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def transform(self, results):
        if results['img_id'] == 13:
            raise {'value': ValueError('wrong value'), 'key': KeyError('scale'), 'none': TypeError("'NoneType'")}[
                self.kind
            ]
        return results


def make_set(folder, pipeline) -> CocoInstanceDataset:
    for number in range(5):
        cv2.imwrite(str(folder / f'{number}.png'), np.full((8, 8, 3), number, np.uint8))
    images = [{'id': 10 + number, 'file_name': f'{number}.png', 'height': 8, 'width': 8} for number in range(5)]
    annotations = [
        {
            'id': number + 1,
            'image_id': 10 + number,
            'category_id': 1,
            'segmentation': [[0, 0, 4, 0, 4, 4]],
            'iscrowd': 0,
        }
        for number in range(5)
    ]
    content = {'images': images, 'annotations': annotations, 'categories': [{'id': 1, 'name': 'a'}]}
    (folder / 'a.json').write_text(json.dumps(content))
    settings = dict(ann_file=str(folder / 'a.json'), data_prefix=dict(img=str(folder)), metainfo=dict(classes=('a',)))
    return CocoInstanceDataset(**settings, pipeline=pipeline)


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize(
    'kind, expected, text',
    [
        ('value', ValueError, 'wrong value'),
        ('key', RuntimeError, r"KeyError\('scale'\)"),
        ('none', RuntimeError, 'NoneType'),
    ],
)
def test_a_step_that_does_not_know_the_file(tmp_path, workers, kind, expected, text):
    dataset = make_set(tmp_path, [dict(type='LoadImageFromFile'), dict(type='_FailsAtThree', kind=kind)])
    loader = DataLoader(
        dataset, num_workers=workers, collate_fn=list, multiprocessing_context='fork' if workers else None
    )
    with pytest.raises(expected, match=rf'3.png \(image id 13\): .*{text}'):
        list(loader)


@pytest.mark.parametrize('kind', ['damaged', 'missing'])
def test_a_file_that_changes_during_a_run(tmp_path, kind):
    dataset = make_set(tmp_path, [dict(type='LoadImageFromFile')])
    assert len([dataset[index] for index in range(5)]) == 5
    path = tmp_path / '3.png'
    path.write_bytes(path.read_bytes()[:-20]) if kind == 'damaged' else path.unlink()
    with pytest.raises(
        ValueError if kind == 'damaged' else FileNotFoundError, match=r'3.png \(image id 13\): '
    ) as error:
        dataset[3]
    assert str(error.value).count('3.png (image') == 1


def test_an_image_without_an_id():
    with pytest.raises(OSError, match='^a.png: no space$'), named_errors({'img_path': 'a.png'}):
        raise OSError('no space')


def test_images_that_are_left_out_are_named(tmp_path):
    dataset = make_set(tmp_path, [dict(type='LoadImageFromFile', ignore_empty=True)])
    (tmp_path / '3.png').write_bytes(b'')
    with pytest.warns(UserWarning, match='left out, since ignore_empty=True: .*3.png'):
        assert dataset[3]['img_id'] != 13
