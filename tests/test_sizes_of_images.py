"""The small networks for digits predict images of any size, not only the 64 x 64 pixels of the digits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmseg_instancenet.apis import init_model, segment_image

CONFIGS = Path(__file__).parents[1] / 'configs'


@pytest.mark.parametrize('size', [(1, 1), (9, 13), (1, 70)])
@pytest.mark.parametrize('name', ['digits_deeplabv3plus', 'digits_segformer'])
def test_images_of_any_size(name, size):
    torch.manual_seed(0)
    model = init_model(Config.fromfile(CONFIGS / f'instancenet_{name}.py'), device='cpu')
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert segment_image(model, image).pred_instance_map.data.shape == (1, *size)
