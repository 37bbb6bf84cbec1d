"""A config of mmseg as an instance segmenter: docs/mmseg_configs.md, by mmseg's own tools and by those of this package."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.apis import MMSegInferencer, inference_model, init_model
from mmseg_configs import needs_mmsegs_configs
from programs import run_program
from untrained_digits import untrained_digits
from zoo import ZOO

from mmseg_instancenet.datasets.digits import write_digits
from mmseg_instancenet.visualization import draw_panel

ROOT = Path(__file__).parents[1]
MIM = ZOO.parent
pytestmark = needs_mmsegs_configs


def documented_training() -> str:
    """The config under "A whole training"."""
    text = (ROOT / 'docs/mmseg_configs.md').read_text()
    return re.search(r'## A whole training.*?```python\n(.*?)```', text, re.DOTALL)[1]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The documented config, trained for one epoch of sixteen digits images by mmseg's tool."""
    folder = tmp_path_factory.mktemp('mmseg')
    write_digits(folder / 'data', num_train=16, num_val=4)
    text = documented_training()
    assert len([line for line in text.splitlines() if line.strip()]) <= 11
    config = folder / 'segformer_digits.py'
    config.write_text(text)
    options = [
        '--cfg-options',
        *(f'{part}_dataloader.dataset.data_root={folder}/data' for part in ('train', 'val', 'test')),
    ]
    shorter = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1']
    output = run_program(MIM / 'tools/train.py', config, '--work-dir', folder / 'run', *options, *shorter)
    return dict(folder=folder, config=config, options=options, output=output, checkpoint=folder / 'run/epoch_1.pth')


def test_mmsegs_tool_trains(trained):
    assert re.search(r'decode.loss_ce: \d.*decode.loss_embedding: \d', trained['output'])
    assert "takes the place of mmseg's SegDataPreProcessor" in trained['output']
    assert 'coco/segm_mAP:' in trained['output']
    state = torch.load(trained['checkpoint'], weights_only=True)['state_dict']
    assert {'decode_head.conv_seg.weight', 'decode_head.conv_embedding.0.weight'} < set(state)


def test_both_tools_test_alike(trained):
    metrics, images = [], trained['folder'] / 'images'
    for tool in (MIM / 'tools/test.py', ROOT / 'tools/test.py'):
        command = [tool, trained['config'], trained['checkpoint'], '--work-dir', trained['folder'] / 'test']
        command += ['--show-dir', images] if tool.parent == ROOT / 'tools' else []
        output = run_program(*command, *trained['options'], 'model.test_cfg.classes=ground_truth')
        metrics.append(re.findall(r'coco/segm_mAP: (\S+)|mIoU: (\S+)', output)[-2:])
    assert metrics[0] == metrics[1] and metrics[0]
    # mmseg's visualizer of the config draws no instances.
    assert sorted(path.name for path in images.glob('*.png')) == [f'0000{number}.png' for number in range(1, 5)]
    assert cv2.imread(str(images / '00001.png')).shape == (256 + 24, 6 * 256 + 5 * 4, 3)


@pytest.fixture
def image(trained):
    return sorted((trained['folder'] / 'data/val').glob('*.png'))[0]


def test_mmsegs_and_mmdets_inference(trained, image):
    """The same class map and instances by mmseg's function, mmseg's inferencer and mmdet's function."""
    config = Config.fromfile(trained['config'])
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = init_model(config, str(trained['checkpoint']), device='cpu')
        model.cfg.test_pipeline = config.test_dataloader.dataset.pipeline
        by_mmseg = inference_model(model, str(image))
        by_mmdet = inference_detector(model, str(image))
        inferencer = MMSegInferencer(str(trained['config']), str(trained['checkpoint']), device='cpu')
        by_inferencer = inferencer(str(image), return_datasamples=True)
    class_map = by_mmseg.pred_sem_seg.data
    assert class_map.shape[1:] == cv2.imread(str(image)).shape[:2]
    for other in (by_mmdet, by_inferencer):
        assert torch.equal(other.pred_sem_seg.data, class_map)
        assert torch.equal(other.pred_instance_map.data, by_mmseg.pred_instance_map.data)
        assert torch.equal(other.pred_embeddings.data, by_mmseg.pred_embeddings.data)
    assert by_mmseg.pred_embeddings.data.std() > 0


def test_mmsegs_inferencer_draws_our_models_too(tmp_path):
    """Its visualizer has to be mmseg's by class; docs/watching.md describes the drawing."""
    config, _ = untrained_digits(ROOT / 'configs/instancenet_digits.py', tmp_path, num_val=1)
    config.dump(tmp_path / 'config.py')
    image = str(next((tmp_path / 'data/val').glob('*.png')))
    with DefaultScope.overwrite_default_scope('mmseg'):
        inferencer = MMSegInferencer(str(tmp_path / 'config.py'), str(tmp_path / 'untrained.pth'), device='cpu')
        drawn = inferencer(image, return_vis=True, out_dir=str(tmp_path / 'out'))['visualization']
        sample = inferencer(image, return_datasamples=True)
    palette = inferencer.model.dataset_meta['palette']
    expected = draw_panel(cv2.imread(image)[..., ::-1], sample, palette, draw_gt=False)
    assert expected.shape == (280, 5 * 256 + 4 * 4, 3)
    assert np.array_equal(drawn, expected)
    assert np.array_equal(cv2.imread(str(tmp_path / 'out/vis' / Path(image).name))[..., ::-1], expected)
