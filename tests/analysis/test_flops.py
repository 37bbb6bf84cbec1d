"""FLOPs against hand counts, and against torch's own counter, which records operators while they run."""

from pathlib import Path

import pytest
import torch
from mmengine.analysis import FlopAnalyzer, get_model_complexity_info
from mmengine.config import Config
from mmseg_configs import REASON, builds_on_mmsegs
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from zoo import ZOO

from mmseg_instancenet import group_by_mean_shift
from mmseg_instancenet.analysis.flops import count_flops
from mmseg_instancenet.analysis.model_costs import load_model
from mmseg_instancenet.models.mean_shift import mean_shift

CONFIGS = Path(__file__).parents[2] / 'configs'

_PRODUCTS = ('conv', 'linear', 'addmm', 'matmul', 'bmm', 'baddbmm', 'einsum', 'scaled_dot_product_attention')
"""Operators that torch's counter has too."""


class Call(nn.Module):
    """A function as a module, which MMEngine's counter takes."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def two_clusters(pixels, dims):
    """Embeddings that no iteration of mean shift moves: two orthogonal directions in turn."""
    return torch.eye(dims)[torch.arange(pixels) % 2]


def test_a_network_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, kernel_size=3, padding=1, stride=2),  # of 8 x 6 pixels 4 x 3
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, kernel_size=3, padding=1, groups=4),
        nn.Upsample(scale_factor=2, mode='bilinear'),
        nn.Flatten(),
        nn.Linear(8 * 8 * 6, 5),
    ).eval()
    count = count_flops(network, torch.zeros(2, 3, 8, 6))
    assert count.by_operator == {
        'conv': 2 * (3 * 8 * 9 * 12 + 2 * 8 * 9 * 12),  # a group has two input channels
        'batch_norm': 2 * 8 * 12 * 2,
        'upsample_bilinear2d': 2 * 8 * 48 * 4,
        'linear': 2 * 8 * 48 * 5,
    }
    assert count.flops == sum(count.by_operator.values())
    assert count.values_not_counted == {}


@pytest.mark.parametrize(
    'function, shapes, name, flops',
    [
        (
            F.scaled_dot_product_attention,
            [(2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4)],
            'scaled_dot_product_attention',
            1680,
        ),
        (F.scaled_dot_product_attention, [(1, 5, 4), (1, 7, 4), (1, 7, 8)], 'scaled_dot_product_attention', 35 * 12),
        (torch.baddbmm, [(2, 5, 7), (2, 5, 3), (2, 3, 7)], 'baddbmm', 2 * 5 * 3 * 7),
        (torch.cdist, [(5, 3), (7, 3)], 'cdist', 5 * 7 * 3),
        (torch.cdist, [(2, 5, 3), (2, 7, 3)], 'cdist', 2 * 5 * 7 * 3),
    ],
)
def test_operators_by_hand(function, shapes, name, flops):
    count = count_flops(Call(function), *(torch.rand(shape) for shape in shapes))
    assert count.by_operator == {name: flops} and count.values_not_counted == {}


def test_what_is_not_counted():
    count = count_flops(Call(lambda x: (x.exp() + x).softmax(1)), torch.zeros(3, 4))
    assert (count.flops, count.values_not_counted) == (0, {'exp': 12, 'add': 12, 'softmax': 12})


@pytest.mark.parametrize('dims, kernel, width', [(3, 'cosine', 4), (8, 'cosine', 8), (3, 'norm', 4), (4, 'norm', 8)])
def test_mean_shift_grouping_by_hand(dims, kernel, width):
    """One iteration, which moves nothing, then the distances of the two places.

    Attention takes embeddings of a multiple of four values, and one value more for the Gaussian kernel: a product with the keys
    and one with the values.
    """
    x_PD = two_clusters(30, dims)
    count = count_flops(Call(lambda x: group_by_mean_shift(x, 100, kernel=kernel)), x_PD)
    assert count.by_operator == {'scaled_dot_product_attention': 30 * 30 * 2 * width, 'cdist': 2 * 2 * dims}


def test_mean_shift_grouping_of_many_pixels():
    """From 4096 pixels on the members of a dense cluster are merged first: less than an iteration over all pairs."""
    x_PD = two_clusters(4096, 4)
    labels, count = group_by_mean_shift(x_PD, 100), count_flops(Call(lambda x: group_by_mean_shift(x, 100)), x_PD)
    assert torch.equal(labels, torch.arange(4096) % 2 + 1)
    assert count.by_operator == {
        # Two iterations on a sample of 1024, then one in which two merged clusters attract all pixels.
        'scaled_dot_product_attention': 2 * (2 * 1024 * 1024 * 4) + 2 * 4096 * 2 * 4,
        'matmul': 4096 * 4,  # places along a random direction, for the sample
        'addmm': 4096 * 2 * 4,  # from pixels to the two cores
        'cdist': 2 * (2 * 2 * 4),  # between the cores, and between the modes
    }
    assert count.flops < 4096**2 * 2 * 4


@pytest.mark.parametrize('loops', [1, 3])
def test_mean_shift_in_training_by_hand(loops):
    def run(x_NPD):
        iterations = mean_shift(x_NPD, 100)
        return [next(iterations) for _ in range(loops + 1)][-1]

    assert count_flops(Call(run), torch.rand(2, 50, 8)).flops == loops * 2 * 50 * 50 * 2 * 8


@pytest.mark.parametrize(
    'name',
    [
        'instancenet_digits',
        'instancenet_digits_segformer',
        'instancenet_digits_upernet-swin',
        'instancenet_digits_mask2former',
        'recurrent-embedding_proposals_digits',
        'recurrent-embedding_unet_dsb2018',
        'recurrent-embedding_efficientnet-lite0_bsds500',
    ],
)
def test_segmentors_against_torchs_counter(name):
    """MMEngine's counter traces the network, torch's is called by every operator that runs, and counts two a product."""
    path = CONFIGS / f'{name}.py'
    if builds_on_mmsegs(path) and not ZOO.is_dir():
        pytest.skip(REASON)
    config = Config.fromfile(path)
    if config.model.backbone.type == 'TIMMBackbone':
        pytest.importorskip('timm', reason="timm is not installed: pip install -e '.[pretrained]'")
    model, image = load_model(config, 'cpu'), torch.rand(1, 3, 64, 64)
    count = count_flops(model, image)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image, mode='tensor')
    products = sum(count.by_operator.get(operator, 0) for operator in _PRODUCTS)
    # numpy, which counts einsum, prints four digits.
    assert products == pytest.approx(counter.get_total_flops() / 2, rel=1e-4 if 'einsum' in count.by_operator else 0)
    assert sum(count.values_not_counted.values()) < 0.05 * count.flops


@pytest.mark.parametrize('name', ['instancenet_digits', 'recurrent-embedding_digits'])
def test_mmengines_function_on_our_segmentors(name):
    """The function that mmseg's get_flops.py calls counts the whole network, the embedding branch included."""
    model, image = load_model(str(CONFIGS / f'{name}.py'), 'cpu'), torch.rand(1, 3, 64, 64)
    info = get_model_complexity_info(model, inputs=(image,), show_table=False, show_arch=False)
    assert info['flops'] == count_flops(model, image).flops
    assert info['params'] == sum(parameter.numel() for parameter in model.parameters())
    branch = model.decode_head.conv_embedding
    layers = [layer for layer in branch.modules() if isinstance(layer, nn.Conv2d)]
    per_cell = sum(layer.weight.numel() for layer in layers)
    with torch.no_grad():
        scores_NChw, _ = model(image)
    cells = scores_NChw[0, 0].numel()
    assert FlopAnalyzer(model, (image,)).total('decode_head.conv_embedding') == per_cell * cells
