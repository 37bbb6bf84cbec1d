"""Drawings of the validations of a training, in files and in TensorBoard, and the curves of its losses and metrics."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from mmseg_instancenet.datasets.digits import write_digits
from mmseg_instancenet.engine import CurvesHook, curves_hook
from mmseg_instancenet.engine.curves_hook import loss_curves, metric_curves

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/recurrent-embedding_digits.py'
COLUMNS = 9
"""Input, classes, embedding, three iterations, instances, scores, ground truth."""
TENSORBOARD = find_spec('tensorboard') is not None


def training(folder: Path, name: str, **settings) -> Runner:
    """A training of four iterations an epoch, with a validation of three images after each epoch."""
    config = Config.fromfile(CONFIG)
    config.merge_from_dict(
        {
            'model.backbone.base_channels': 4,
            'model.decode_head.in_channels': 32,
            'model.decode_head.channels': 8,
            'model.decode_head.c1_in_channels': 4,
            'model.decode_head.c1_channels': 4,
            'model.test_cfg': {'classes': 'ground_truth'},  # a few iterations find no digit by themselves
            'train_dataloader.batch_size': 2,
            'train_dataloader.dataset.data_root': f'{folder}/data',
            'val_dataloader.dataset.data_root': f'{folder}/data',
            'default_hooks.logger.interval': 1,
            'default_hooks.checkpoint.save_best': None,
            'default_hooks.panels.count': 2,
            'log_processor.window_size': 1,
            'train_cfg.val_interval': 1,
            'log_level': 'WARNING',
            **settings,
        }
    )
    config.update(work_dir=str(folder / 'run'), experiment_name=f'{folder.name}-{name}', param_scheduler=[])
    return Runner.from_cfg(config)


@pytest.fixture(scope='module')
def runs(tmp_path_factory) -> list[Runner]:
    """A training of two epochs, and one more epoch after a resume."""
    folder = tmp_path_factory.mktemp('watching')
    write_digits(folder / 'data', num_train=8, num_val=3)
    backends = [{'type': 'LocalVisBackend'}, *([{'type': 'TensorboardVisBackend'}] if TENSORBOARD else [])]
    drawn, found = [], []
    original = curves_hook.plot_curves
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves_hook, 'plot_curves', lambda *args, **kw: (drawn.append(args), original(*args, **kw)))
        for name, epochs in (('first', 2), ('second', 3)):
            settings = {'train_cfg.max_epochs': epochs, 'resume': name == 'second'}
            settings['visualizer.vis_backends'] = [dict(backend) for backend in backends]
            runner = training(folder, name, **settings)
            runner.train()
            runner.drawn = {Path(path).name: (curves, unit) for curves, unit, _, path in drawn}
            drawn.clear()
            found.append(runner)
    return found


def test_the_config_on_the_page(tmp_path):
    (text,) = re.findall(r'```python\n(# my_training.py\n.*?)```', (ROOT / 'docs/watching.md').read_text(), re.DOTALL)
    (tmp_path / 'my_training.py').write_text(text)
    config = Config.fromfile(tmp_path / 'my_training.py')
    assert [backend.type for backend in config.visualizer.vis_backends] == ['LocalVisBackend', 'TensorboardVisBackend']
    assert config.visualizer.type == 'InstanceLocalVisualizer' and config.train_cfg.val_interval == 1
    assert config.default_hooks.panels == dict(type='PanelHook', count=8)
    assert HOOKS.build(config.default_hooks.curves).metrics == ('mIoU', 'mAcc')


def scalars(runner: Runner) -> list[dict]:
    """The lines of the run's own log of numbers."""
    return [json.loads(line) for line in (Path(runner.log_dir) / 'vis_data/scalars.json').read_text().splitlines()]


def test_each_validation_draws_the_same_images_with_a_column_for_each_iteration(runs):
    first, second = (sorted((Path(run.log_dir) / 'vis_data/vis_image').glob('*.png')) for run in runs)
    assert [path.name for path in first] == [f'val_{n}_0000{n}_{epoch}.png' for n in (1, 2) for epoch in (1, 2)]
    # The validation of epoch 2 is in no checkpoint, since it was not the best one, and is made again.
    assert [path.name for path in second] == [f'val_{n}_0000{n}_{epoch}.png' for n in (1, 2) for epoch in (2, 3)]
    images = [cv2.imread(str(path)) for path in first]
    assert {image.shape for image in images} == {(256 + 24, COLUMNS * 256 + (COLUMNS - 1) * 4, 3)}
    # Input, class map and ground truth stay, the embedding is that of the moment.
    for column, same in ((0, True), (1, True), (2, False), (8, True)):
        before, after = (image[24:, 260 * column : 260 * column + 256] for image in images[:2])
        assert np.array_equal(before, after) == same


@pytest.mark.skipif(not TENSORBOARD, reason='needs the package tensorboard: pip install tensorboard')
def test_tensorboard_has_the_same_images_and_scalars(runs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = Path(runs[0].log_dir) / 'vis_data'
    events = EventAccumulator(str(folder), size_guidance={'images': 0, 'scalars': 0}).Reload()
    assert events.Tags()['images'] == ['val_1_00001', 'val_2_00002']
    for tag in events.Tags()['images']:
        shown = events.Images(tag)
        assert [event.step for event in shown] == [1, 2]  # epochs
        for event in shown:
            image = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_array_equal(image, cv2.imread(str(folder / f'vis_image/{tag}_{event.step}.png')))
    ap = [line['coco/segm_mAP'] for line in scalars(runs[0]) if 'coco/segm_mAP' in line]
    np.testing.assert_allclose([event.value for event in events.Scalars('coco/segm_mAP')], ap)
    assert len(ap) == 2


def test_the_curves_are_the_numbers_of_the_log(runs):
    """After a resume they begin with the first iteration, and no validation is missing: MMEngine writes a checkpoint before the
    validation of its epoch, and again after it only where it is the best one; the one of epoch 2 is made again."""
    first, second = runs
    lines = [scalars(run) for run in runs]
    losses = [[line['loss'] for line in of_run if 'loss' in line] for of_run in lines]
    assert [len(values) for values in losses] == [8, 4]
    for run, values in ((first, losses[0]), (second, losses[0] + losses[1])):
        curves, unit = run.drawn['loss.png']
        assert unit == 'epoch' and list(curves)[0] == 'loss'
        assert set(curves) == {'loss', 'decode.loss_ce', 'decode.loss_embedding'}
        np.testing.assert_allclose(curves['loss'][0], np.arange(1, len(values) + 1) / 4)
        np.testing.assert_allclose(curves['loss'][1], values, rtol=1e-5)
    ap = [[line['coco/segm_mAP_50'] for line in of_run if 'coco/segm_mAP_50' in line] for of_run in lines]
    curves, _ = first.drawn['metrics.png']
    assert list(curves) == ['coco/segm_mAP', 'coco/segm_mAP_50', 'coco/segm_mAP_75']
    assert curves['coco/segm_mAP_50'] == ([1, 2], ap[0])
    assert ap[1][0] == ap[0][1]
    assert second.drawn['metrics.png'][0]['coco/segm_mAP_50'] == ([1, 2, 3], [ap[0][0], *ap[1]])
    for run in runs:
        for name in ('loss.png', 'metrics.png'):
            assert cv2.imread(str(Path(run.log_dir) / name)).min() < 100  # no blank page


def hub_of(histories: dict[str, list[float]], validations=()) -> MessageHub:
    scalars = {f'train/{name}': HistoryBuffer(values, [1] * len(values)) for name, values in histories.items()}
    return MessageHub('curves', scalars, {'history_of_validations': list(validations)})


def test_long_trainings_have_two_hundred_means_and_the_largest_parts():
    values = np.random.default_rng(0).random(1000)
    parts = {f'part{k}.loss_ce': (values * k).tolist() for k in range(9)}
    curves = loss_curves(hub_of({'lr': [1.0] * 1000, 'acc': [0.5] * 1000, **parts, 'loss': values.tolist()}), 1000)
    assert list(curves) == ['loss', *(f'part{k}.loss_ce' for k in (8, 7, 6, 5, 4, 3))]
    np.testing.assert_allclose(curves['loss'].ys, values.reshape(200, 5).mean(1))
    np.testing.assert_allclose(curves['part8.loss_ce'].ys, 8 * values.reshape(200, 5).mean(1))
    assert curves['loss'].xs == [3 + 5 * k for k in range(200)]


def test_a_history_that_begins_late_ends_with_the_last_iteration():
    assert loss_curves(hub_of({'loss': [3.0, 2.0, 1.0]}), iteration=10)['loss'] == ([8, 9, 10], [3, 2, 1])


def test_metrics_are_chosen_by_name_and_gaps_are_kept():
    validations = [
        {'iteration': 5, 'coco/segm_mAP': 0.1, 'mIoU': 20.0, 'coco/segm_mAP_s': -1.0},
        {'iteration': 10, 'mIoU': 30.0, 'counting/accuracy_50': 0.5},
    ]
    hub = hub_of({}, validations)
    curves = metric_curves(hub, CurvesHook().metrics)
    assert list(curves) == ['coco/segm_mAP', 'counting/accuracy_50']
    np.testing.assert_equal(curves['coco/segm_mAP'], ([5, 10], [0.1, np.nan]))
    np.testing.assert_equal(curves['counting/accuracy_50'], ([5, 10], [np.nan, 0.5]))
    assert list(metric_curves(hub, ['mIoU', 'coco/segm_mAP'])) == ['mIoU', 'coco/segm_mAP']
    assert metric_curves(hub, ['mIoU']) == {'mIoU': ([5, 10], [20, 30])}
    assert metric_curves(hub, ['PQ']) == {} and metric_curves(hub_of({}), ['mIoU']) == {}


def test_a_validation_alone_is_not_recorded():
    hub = hub_of({})
    CurvesHook().after_val_epoch(SimpleNamespace(message_hub=hub), {'mIoU': 1.0})
    assert hub.get_info('history_of_validations') == []
