"""The loss and the grouper of CONTRIBUTING.md, as they stand there: values against plain loops, and a training."""

import copy
import importlib
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_instancenet.datasets.digits import write_digits

TEXT = (Path(__file__).parents[1] / 'CONTRIBUTING.md').read_text()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Holds each block of code under the name of its first line, ``# my_parts.py``."""
    folder = tmp_path_factory.mktemp('contribution')
    blocks = re.findall(r'```python\n# (\w+\.py)\n(.*?)```', TEXT, re.DOTALL)
    assert sorted(name for name, _ in blocks) == ['my_config.py', 'my_parts.py']
    for name, code in blocks:
        (folder / name).write_text(code)
    return folder


@pytest.fixture
def parts(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module('my_parts')


def test_each_class_has_at_most_twenty_lines(folder):
    _, *classes = (folder / 'my_parts.py').read_text().split('@MODELS.register_module()\n')
    assert len(classes) == 2
    for code in classes:
        assert len([line for line in code.splitlines() if line.strip()]) <= 20


def reference_loss(x_NDHW, ids_NHW):
    """Cross-entropy over the means, pixel by pixel in Python floats."""
    terms = []
    for x_DHW, id_HW in zip(x_NDHW.double(), ids_NHW, strict=True):
        pixels = {}
        for row, of_row in enumerate(id_HW.tolist()):
            for column, number in enumerate(of_row):
                if number != -1:
                    pixels.setdefault(number, []).append(x_DHW[:, row, column].tolist())
        means = {number: [sum(axis) / len(xs) for axis in zip(*xs, strict=True)] for number, xs in pixels.items()}
        for number, xs in pixels.items():
            for x in xs:
                scores = {
                    other: -sum((a - b) ** 2 for a, b in zip(x, mean, strict=True)) for other, mean in means.items()
                }
                terms.append(math.log(sum(map(math.exp, scores.values()))) - scores[number])
    return sum(terms) / len(terms)


@pytest.mark.parametrize(
    'ids',
    [
        [[[0, 0, 3], [0, 7, 3]], [[1, 1, 1], [0, 0, 0]]],  # ids need not be contiguous
        [[[0, 0, 0], [0, 0, 0]], [[-1, 2, 2], [-1, 5, 0]]],  # an image without objects; ignored pixels
        [[[4, 4, 4], [4, 4, 4]], [[1, 2, 3], [4, 5, 6]]],  # one object; one a pixel
    ],
)
def test_loss_is_the_cross_entropy_over_the_means(parts, ids):
    ids_NHW = torch.tensor(ids)
    x_NDHW = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    (total,) = parts.PrototypeLoss()(x_NDHW, ids_NHW).values()
    assert float(total) == pytest.approx(reference_loss(x_NDHW, ids_NHW), rel=1e-5)


def test_loss_of_ignored_pixels_is_zero_and_has_a_gradient(parts):
    x_NDHW = torch.randn(1, 3, 2, 3, requires_grad=True)
    (total,) = parts.PrototypeLoss()(x_NDHW, torch.full((1, 2, 3), -1)).values()
    total.backward()
    assert float(total.detach()) == 0 and not x_NDHW.grad.any()


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ([0.1, 0.9, 5.2, -0.8], [1, 1, 2, 1]),
        ([0.0], [1]),
        ([8.4, -9.0, 8.8, 0.0], [3, 1, 3, 2]),
    ],
)
def test_pixels_of_one_cell_are_a_group(parts, values, expected):
    grouper = parts.GridGrouping(cell=2.0, class_agnostic=True)
    assert grouper(torch.tensor(values)[None, None]).tolist() == [expected]


def test_its_config_trains_and_tests(parts, folder, tmp_path):
    write_digits(tmp_path / 'digits', num_train=16, num_val=2)
    config = Config.fromfile(folder / 'my_config.py')
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.data_root = str(tmp_path / 'digits')
    config.work_dir, config.experiment_name = str(tmp_path / 'run'), 'contribution'
    config.train_cfg.update(max_epochs=1, val_interval=2)
    config.param_scheduler = []
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1)
    config.default_hooks.logger.interval = 1
    config.log_level = 'ERROR'
    runner = Runner.from_cfg(config)
    assert isinstance(runner.model.branch.loss_embedding, parts.PrototypeLoss)
    assert isinstance(runner.model.grouper, parts.GridGrouping)
    before = copy.deepcopy(runner.model.decode_head.conv_embedding.state_dict())
    runner.train()
    after = runner.model.decode_head.conv_embedding.state_dict()
    assert all(torch.isfinite(value).all() and not torch.equal(value, before[name]) for name, value in after.items())
    assert 0 <= runner.test()['coco/segm_mAP'] <= 1
