"""From Python: image in, prediction out."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmseg_instancenet.apis import init_model, segment_picture
from mmseg_instancenet.models import BoundarySegmentor

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='module')
def boundary_model() -> BoundarySegmentor:
    """That of the config, narrow and untrained."""
    config = Config.fromfile(CONFIGS / 'recurrent-embedding_r50_bsds500.py')
    config.model.backbone.update(init_cfg=None, base_channels=4, stem_channels=4)
    config.model.decode_head.in_channels = (16, 32, 64, 128)
    torch.manual_seed(0)
    return init_model(config, device='cpu')


def test_boundaries_of_an_array_and_of_a_file(boundary_model, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 61, 3)).astype(np.uint8)
    result = segment_picture(boundary_model, image)
    boundary = result.pred_boundary.data
    assert boundary.shape == (1, 40, 61) and 0 <= boundary.min() < boundary.max() <= 1
    assert 'gt_boundaries' not in result
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    from_file = segment_picture(boundary_model, tmp_path / 'image.png')
    assert from_file.pred_boundary.data.equal(boundary) and from_file.img_path == str(tmp_path / 'image.png')


@pytest.mark.parametrize(
    'name', ['recurrent-embedding_r50_bsds500', 'instancenet_r50_coco', 'recurrent-embedding_r50_voc2012']
)
def test_no_step_of_training_or_testing_needs_what_an_image_alone_has_not(name, boundary_model, monkeypatch):
    """The steps of all pipelines of the config run on an image alone; the model is another's."""
    config = Config.fromfile(CONFIGS / f'{name}.py')
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    for pipeline in (config.train_pipeline, config.test_pipeline):
        deterministic = [step for step in pipeline if 'Random' not in step.type]
        monkeypatch.setitem(boundary_model.cfg.test_dataloader.dataset, 'pipeline', deterministic)
        assert segment_picture(boundary_model, image).pred_boundary.data.shape == (1, 64, 96)
