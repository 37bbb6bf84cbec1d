"""``PanelHook``: which images are drawn, when, and the paths of their drawings."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.structures import InstanceData, PixelData
from mmengine.visualization import Visualizer

from mmseg_instancenet.engine import PanelHook
from mmseg_instancenet.visualization import InstanceLocalVisualizer

SIZE = (32, 48)


def result_of(path: Path) -> DetDataSample:
    """A data sample after testing, and its image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*SIZE, 3), 90, np.uint8))
    sample = DetDataSample(metainfo={'img_path': str(path)})
    ids = torch.ones(1, *SIZE, dtype=torch.long)
    sample.pred_sem_seg = PixelData(data=ids)
    sample.pred_instances = InstanceData(scores=torch.ones(1))
    sample.set_field(PixelData(data=ids), 'pred_instance_map', dtype=PixelData)
    sample.set_field(PixelData(data=torch.rand(3, 8, 12)), 'pred_embeddings', dtype=PixelData)
    return sample


def fake_runner(folder: Path, dataset=None, visualizer=InstanceLocalVisualizer, train_loop=None) -> SimpleNamespace:
    return SimpleNamespace(
        visualizer=visualizer(vis_backends=[dict(type='LocalVisBackend')], save_dir=str(folder)),
        logger=SimpleNamespace(info=print, warning=print),
        model=torch.nn.Identity(),
        test_dataloader=SimpleNamespace(dataset=dataset),
        _train_loop=train_loop,
    )


def panels_of(paths, tmp_path, data_prefix, wrap=lambda dataset: dataset) -> list[str]:
    hook = PanelHook(str(tmp_path / 'panels'))
    dataset = wrap(SimpleNamespace(metainfo={}, data_prefix=data_prefix))
    runner = fake_runner(tmp_path / 'run', dataset)
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, outputs=[result_of(path) for path in paths])
    found = sorted((tmp_path / 'panels').rglob('*.png'))
    assert all(mmcv.imread(path).shape[0] == 256 + 24 for path in found)
    assert not list(tmp_path.glob('*.png')) and not list((tmp_path / 'run').rglob('*.png'))
    return [str(path.relative_to(tmp_path / 'panels')) for path in found]


@pytest.mark.parametrize('key', ['img', 'img_path'])
def test_images_of_one_name_in_two_folders_get_two_panels(tmp_path, key):
    paths = [tmp_path / 'images' / name for name in ('a/1.png', 'b/1.png', '2.png')]
    assert panels_of(paths, tmp_path, {key: f'{tmp_path}/images/'}) == ['2.png', 'a/1.png', 'b/1.png']


def test_images_outside_of_the_image_folder(tmp_path):
    """VOC's json names the photos from where it lies."""
    paths = [tmp_path / 'VOC/JPEGImages/1.png', tmp_path / 'SBD/img/1.png']
    names = panels_of(paths, tmp_path, {'img': f'{tmp_path}/json/'})
    assert names == ['SBD/img/1.png', 'VOC/JPEGImages/1.png']


def test_a_data_set_without_an_image_folder(tmp_path):
    assert panels_of([tmp_path / 'images/1.png'], tmp_path, {}) == ['1.png']
    paths = [tmp_path / 'images' / name for name in ('1.png', '1.jpg', '../other/1.png', 'below/1.png')]
    assert panels_of(paths, tmp_path, {}) == ['1.jpg.png', '1.png', 'below/1.png', 'other/1.png']


def test_joined_data_sets(tmp_path):
    sets = [SimpleNamespace(data_prefix={'img': f'{tmp_path}/{name}/'}) for name in ('a', 'b')]
    paths = [tmp_path / 'a/1.png', tmp_path / 'b/1.png']
    found = panels_of(paths, tmp_path, {}, lambda _: SimpleNamespace(metainfo=[{}, {}], datasets=sets))
    assert found == ['a/1.png', 'b/1.png']


def drawings(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / 'vis_data/vis_image').glob('*.png'))


def test_a_validation_draws_its_first_images_under_their_number(tmp_path):
    """Two images of one name, over two batches; a second validation draws the same ones again."""
    hook, runner = PanelHook(count=3), fake_runner(tmp_path / 'run')
    batches = [['a/1.png', 'b/1.png'], ['a/2.png', 'a/3.png'], ['a/4.png']]
    for _ in range(2):
        hook.before_train(runner)
        hook.before_val(runner)
        for place, names in enumerate(batches):
            hook.after_val_iter(runner, place, outputs=[result_of(tmp_path / name) for name in names])
        assert drawings(tmp_path / 'run') == ['val_1_1_0.png', 'val_2_1_0.png', 'val_3_2_0.png']
        for path in (tmp_path / 'run').rglob('*.png'):
            path.unlink()
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, outputs=[result_of(tmp_path / 'a/1.png')])
    assert drawings(tmp_path / 'run') == []


@pytest.mark.parametrize(
    'loop, attributes, step',
    [
        (None, {}, 0),
        (EpochBasedTrainLoop, {'_epoch': 3, '_iter': 700}, 3),
        (IterBasedTrainLoop, {'_epoch': 1, '_iter': 700}, 700),
    ],
)
def test_a_training_counts_epochs_or_iterations(tmp_path, loop, attributes, step):
    train_loop = (
        {} if loop is None else object.__new__(loop)
    )  # a config of a loop, of which a validation alone builds none
    vars_of = {} if loop is None else vars(train_loop)
    vars_of.update(attributes)
    hook, runner = PanelHook(count=1), fake_runner(tmp_path / 'run', train_loop=train_loop)
    hook.before_val(runner)
    hook.after_val_iter(runner, 0, outputs=[result_of(tmp_path / '1.png')])
    assert drawings(tmp_path / 'run') == [f'val_1_1_{step}.png']


def test_a_hook_with_a_folder_draws_no_validation(tmp_path):
    hook, runner = PanelHook(str(tmp_path / 'panels')), fake_runner(tmp_path / 'run', visualizer=Visualizer)
    hook.before_train(runner)
    hook.before_val(runner)
    hook.after_val_iter(runner, 0, outputs=[result_of(tmp_path / '1.png')])
    assert drawings(tmp_path / 'run') == [] and not (tmp_path / 'panels').exists()


def test_an_image_that_cannot_be_drawn_stops_no_training(tmp_path, capsys):
    """No file, no image, a data sample without a path, and a size that is not the maps': one warning; the others are drawn."""
    hook, runner = PanelHook(count=5), fake_runner(tmp_path / 'run')
    samples = [result_of(tmp_path / f'{number}.png') for number in range(5)]
    (tmp_path / '0.png').unlink()
    (tmp_path / '1.png').write_bytes(b'none')
    del samples[2].img_path
    cv2.imwrite(str(tmp_path / '3.png'), np.zeros(SIZE[::-1], np.uint8))
    hook.before_val(runner)
    hook.after_val_iter(runner, 0, outputs=samples)
    assert drawings(tmp_path / 'run') == ['val_5_4_0.png']
    assert capsys.readouterr().out.count('an image of the validation is not drawn') == 1


@pytest.mark.parametrize('moment', ['before_train', 'before_val', 'before_test'])
def test_another_visualizer_is_refused(tmp_path, moment):
    hook = PanelHook(str(tmp_path / 'panels') if moment == 'before_test' else None)
    with pytest.raises(TypeError, match="expected visualizer=dict\\(type='InstanceLocalVisualizer'.*, got Visualizer"):
        getattr(hook, moment)(fake_runner(tmp_path, visualizer=Visualizer))


def test_no_images_at_all_are_refused():
    with pytest.raises(ValueError, match='expected count >= 1 images, got 0'):
        PanelHook(count=0)
