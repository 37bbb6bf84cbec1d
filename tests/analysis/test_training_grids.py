"""The sizes of an image in training."""

from pathlib import Path

import pytest
import torch
from mmcv.transforms import RandomChoiceResize, RandomFlip, RandomResize, Resize
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_instancenet.analysis.training_grids import TrainingGrids, embedding_stride
from mmseg_instancenet.datasets.transforms import ResizeLongerSide

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.mark.parametrize(
    ('steps', 'stride', 'size', 'grids'),
    [
        ([], 1, (20, 30), ((20, 30), (20, 30))),
        ([], 4, (21, 30), ((21, 30), (6, 8))),
        ([ResizeLongerSide(length=513)], 4, (480, 640), ((385, 513), (97, 129))),
        ([RandomFlip(prob=0.5), Resize(scale=(64, 32))], 8, (100, 100), ((32, 64), (4, 8))),
        (
            [RandomResize(scale=(500, 500), ratio_range=(0.5, 1.5), keep_ratio=True)],
            2,
            (50, 100),
            ((250, 500), (125, 250)),
        ),
        ([RandomResize(scale=[(100, 100), (200, 200)], keep_ratio=True)], 2, (50, 100), ((100, 200), (50, 100))),
        ([RandomChoiceResize(scales=[(60, 60), (80, 80), (90, 90)])], 1, (20, 30), ((80, 80), (80, 80))),
        ([Resize(scale=(64, 64)), Resize(scale_factor=0.5)], 4, (20, 30), ((32, 32), (8, 8))),
    ],
)
def test_grids(steps, stride, size, grids):
    assert TrainingGrids(steps, stride)(size) == grids


@pytest.mark.parametrize(
    ('config', 'stride'),
    [('instancenet_unet_dsb2018', 1), ('instancenet_digits', 1), ('recurrent-embedding_r50_voc2012', 4)],
)
def test_stride_is_that_of_the_embeddings_of_any_image(config, stride):
    model = Config.fromfile(CONFIGS / f'{config}.py').model
    found = embedding_stride(model)
    network = MODELS.build(model).eval()
    sample = {'ori_shape': (64, 96), 'img_shape': (64, 96)}
    with torch.no_grad():
        embeddings = network.scores_and_embeddings(torch.zeros(1, 3, 64, 96), [sample])[1]
    assert (64 / embeddings.shape[2], 96 / embeddings.shape[3]) == (found, found) == (stride, stride)


def test_model_without_embeddings():
    assert embedding_stride({'type': 'EncoderDecoder'}) is None
