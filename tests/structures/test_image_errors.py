"""Errors that name the images and the iteration."""

import pytest
from mmdet.structures import DetDataSample
from mmengine.logging import MessageHub

from mmseg_instancenet.structures import describe_images, images_in_errors


@pytest.fixture
def hub(monkeypatch) -> MessageHub:
    """The message hub of a run."""
    hub = MessageHub('image-errors')
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: hub)
    return hub


def samples(*paths):
    return [DetDataSample(metainfo={} if path is None else dict(img_path=path)) for path in paths]


def test_images_and_iteration(hub):
    assert describe_images(samples('a.png')) == 'image a.png'
    assert describe_images(samples('a.png', None)) == 'images a.png, number 2 of the batch, without a file'
    hub.update_info('loop_stage', 'train')
    hub.update_info('iter', 6)  # from 0; the log counts from 1
    assert describe_images(samples('a.png', 'b.png')) == 'iteration 7, images a.png, b.png'
    assert describe_images([]) == 'iteration 7'
    hub.update_info('loop_stage', 'val')
    assert describe_images(samples('a.png')) == 'image a.png'


def test_a_value_error_gets_the_images_and_another_error_stays():
    with pytest.raises(ValueError, match=r'^broken \(image a.png\)$') as caught, images_in_errors(samples('a.png')):
        raise ValueError('broken')
    assert str(caught.value.__cause__) == 'broken'
    with pytest.raises(RuntimeError, match='^other$'), images_in_errors(samples('a.png')):
        raise RuntimeError('other')
    with images_in_errors(samples('a.png')):
        pass
