"""The analysis tools of Recurrent Pixel Embedding, on digits and an untrained model."""

import copy
import importlib.util
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from untrained_digits import untrained_digits

from mmseg_instancenet.analysis.labelled_embeddings import (
    labelled_embeddings,
    load_looping_model,
    loss_on_embeddings,
    shift_embeddings,
)
from mmseg_instancenet.models import MeanShiftGrouping
from mmseg_instancenet.models.postprocess.passes import NetworkPass
from mmseg_instancenet.structures import MapPlacement

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / 'configs/recurrent-embedding_3d_digits.py'
TOOLS = ('gradient_with_loops', 'similarity_by_loop', 'embedding_sphere')


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """The config with a small set of digits and a small network; a checkpoint with its first weights."""
    folder = tmp_path_factory.mktemp('digits')
    config, options = untrained_digits(CONFIG, folder, num_val=4)
    return dict(folder=folder, config=config, options=options, checkpoint=str(folder / 'untrained.pth'))


@pytest.fixture
def run_tool(monkeypatch, capsys):
    """Runs a tool within this process and returns its output."""

    def run(name, *arguments):
        specification = importlib.util.spec_from_file_location(name, REPOSITORY / f'tools/analysis/{name}.py')
        tool = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(tool)
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        capsys.readouterr()
        tool.main()
        return capsys.readouterr().out

    return run


def test_labelled_embeddings_lie_on_the_image(digits):
    model, dataset = load_looping_model(copy.deepcopy(digits['config']), digits['checkpoint'])
    images = list(labelled_embeddings(model, dataset, 9))
    assert len(images) == 4, 'no more than there are'
    for index, one in enumerate(images):
        packed = dataset[index]
        assert one.image_HW3.shape == (64, 64, 3) and one.embeddings_Dhw.shape == (3, 64, 64)
        truth = packed['data_samples'].gt_instance_map.data[0]
        assert torch.equal(one.instance_hw.cpu(), truth) and np.array_equal(one.instance_HW, truth.numpy())
        # The very network's embeddings, of length 1, and the foreground alone is grouped.
        batch = model.data_preprocessor({key: [value] for key, value in packed.items()}, False)
        with torch.no_grad():
            _, embeddings = model.scores_and_embeddings(batch['inputs'], [batch['data_samples'][0].metainfo])
        torch.testing.assert_close(one.embeddings_Dhw, embeddings[0])
        torch.testing.assert_close(one.embeddings_Dhw.norm(dim=0), torch.ones(64, 64, device=embeddings.device))
        assert torch.equal(one.regions(model.grouper).cpu() > 0, truth > 0)


def test_coarse_maps_with_padding_lie_on_the_image(digits, monkeypatch):
    """An image of 64 x 64 resized to 32 x 32, padded to 40 x 48, and a map at half of that: cells lie 4 pixels apart."""
    model, dataset = load_looping_model(copy.deepcopy(digits['config']), digits['checkpoint'])
    device = next(model.parameters()).device
    embeddings = torch.randn(3, 20, 24, device=device)
    placement = MapPlacement((64, 64), (32, 32), (40, 48))
    monkeypatch.setattr(
        model, 'views', lambda *_: [[NetworkPass(torch.zeros(11, 20, 24, device=device), embeddings, placement)]]
    )
    one = next(labelled_embeddings(model, dataset, 1))
    sample = dataset[0]['data_samples']
    assert torch.equal(one.embeddings_Dhw, embeddings[:, :16, :16])
    assert torch.equal(one.instance_hw.cpu(), sample.gt_instance_map.data[0, 2::4, 2::4])
    assert torch.equal(one.class_hw.cpu(), sample.gt_sem_seg.data[0, 2::4, 2::4])


def test_ignored_pixels_are_in_no_region(digits):
    model, dataset = load_looping_model(copy.deepcopy(digits['config']), digits['checkpoint'])
    one = next(labelled_embeddings(model, dataset, 1))
    one.instance_hw[:40] = -1
    everywhere = MeanShiftGrouping(class_agnostic=True, background_groups=True)
    assert (one.regions(everywhere)[:40] == 0).all() and (one.regions(everywhere)[40:] == 1).all()


def test_shifted_points_are_those_of_a_plain_loop():
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    regions = torch.tensor([1, 2, 1, 1, 2, 1, 2, 2, 1])
    loops = shift_embeddings(MeanShiftGrouping(concentration=4.0), x, regions, 2)
    expected = x / x.norm(dim=1, keepdim=True)
    for shifted in loops:
        torch.testing.assert_close(shifted, expected)
        after = torch.zeros_like(expected)
        for i in range(9):
            for j in range(9):
                if regions[i] == regions[j]:
                    after[i] += torch.exp(4 * expected[i] @ expected[j]) * expected[j]
        expected = after / after.norm(dim=1, keepdim=True)
    assert len(loops) == 3


def test_models_that_cannot_be_looked_at(digits):
    config = copy.deepcopy(digits['config'])
    config.model.grouper = dict(type='CenterGrouping')
    config.model.decode_head.loss_embedding = dict(type='SphericalPairLoss')
    with pytest.raises(TypeError, match='expected a MeanShiftGrouping .* got CenterGrouping; add --cfg-options'):
        load_looping_model(config, digits['checkpoint'])
    model, _ = load_looping_model(copy.deepcopy(digits['config']), digits['checkpoint'])
    assert type(loss_on_embeddings(model)).__name__ == 'SphericalPairLoss'
    model.decode_head.loss_embedding = None
    with pytest.raises(TypeError, match='expected a loss_embedding'):
        loss_on_embeddings(model)


def test_gradient_with_loops(digits, run_tool):
    out = digits['folder'] / 'new/gradient.png'
    output = run_tool(
        'gradient_with_loops', CONFIG, digits['checkpoint'], '--loops', 2, '--rows', 2, '--out', out,
        '--cfg-options', *digits['options'],
    )  # fmt: skip
    near, grouped = map(int, re.search(r'(\d+) of (\d+) grouped pixels', output).groups())
    assert 0 < near < grouped < 4 * 64 * 64
    shares = [float(value) for value in re.findall(r'loops \d:\s+([0-9.]+) %', output)]
    assert len(shares) == 3 and all(0 < share < 100 for share in shares)
    assert cv2.imread(str(out)).shape[:2] == (2 * 250, round(100 * (4 * 2.4 + 0.8)))


def test_similarity_by_loop(digits, run_tool):
    out = digits['folder'] / 'similarity.png'
    output = run_tool(
        'similarity_by_loop', CONFIG, digits['checkpoint'], '--loops', 3, '--pairs', 100, '--out', out,
        '--cfg-options', *digits['options'],
    )  # fmt: skip
    rows = re.findall(r'(one|two) instances?, loop (\d)\s+(\d+)\s+([0-9.]+)', output)
    assert len(rows) == 8 and {int(pairs) for _, _, pairs, _ in rows} == {400}
    means = {(kind, int(loop)): float(mean) for kind, loop, _, mean in rows}
    # The head sees coordinates: what lies together is alike before any training.
    assert all(means['one', loop] > means['two', loop] for loop in range(4))
    assert cv2.imread(str(out)).shape[1] == 4 * 320


@pytest.mark.parametrize('dims', [3, 8])
def test_embedding_sphere(digits, run_tool, dims):
    folder = digits['folder'] / f'{dims}'
    checkpoint = digits['checkpoint']
    if dims == 8:
        content = torch.load(checkpoint, weights_only=True)
        for name in ('weight', 'bias'):  # of the last layer
            value = content['state_dict'][f'decode_head.conv_embedding.2.{name}']
            content['state_dict'][f'decode_head.conv_embedding.2.{name}'] = torch.cat(
                [value, value.flip(0), value[:2] * 2]
            )
        folder.mkdir()
        checkpoint = folder / 'untrained.pth'
        torch.save(content, checkpoint)
    output = run_tool(
        'embedding_sphere', CONFIG, checkpoint, '--count', 2, '--loops', 2, '--work-dir', folder,
        '--cfg-options', *digits['options'], f'model.decode_head.embedding_dims={dims}',
    )  # fmt: skip
    assert output.strip().endswith('embedding_sphere.png')
    assert cv2.imread(str(folder / 'embedding_sphere.png')).shape[:2] == (700, 1050)


def test_one_dimensional_toy(run_tool, tmp_path):
    out = tmp_path / 'new/toy.png'
    output = run_tool('one_dimensional_toy', '--loops', 2, '--points', 100, '--out', out)
    rows = re.findall(r'^(.+?)\s+mean ([0-9.]+)\s+largest [0-9.]+\s+mean ([0-9.]+)', output, re.MULTILINE)
    points, after = ({row[0]: float(row[column]) for row in rows} for column in (1, 2))
    assert len(rows) == 4
    assert points['2 loops, loss after every loop'] < points['no loops'] < points['2 loops, loss after the last']
    assert after['2 loops, loss after every loop'] < after['2 loops, loss after the last'] < after['no loops']
    assert cv2.imread(str(out)).shape[:2] == (640, 1500)


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        *((tool, ['config.py', 'checkpoint.pth', '--loops', '0'], 'of at least 1') for tool in TOOLS),
        *((tool, ['nowhere.py', 'checkpoint.pth'], 'config not found: nowhere.py') for tool in TOOLS),
        ('one_dimensional_toy', ['--loops', '0', '1'], r'of at least 1, got \[0, 1\]'),
    ],
)
def test_refuses(run_tool, capsys, tool, arguments, message):
    with pytest.raises(SystemExit) as error:
        run_tool(tool, *arguments)
    assert re.search(message, f'{error.value} {capsys.readouterr().err}')
