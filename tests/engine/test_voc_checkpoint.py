"""Tensors that the recipe of COCO loads from DeepLabV3+ of mmseg's zoo, trained on VOC: by a file with its names and
shapes."""

import logging
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.runner import Runner
from mmseg.registry import MODELS

from mmseg_instancenet.engine import LoadReport

CONFIGS = Path(__file__).parents[2] / 'configs'
ZOO = Path(mmseg.__file__).parent / '.mim'
NEW = ['decode_head.conv_embedding.weight', 'decode_head.conv_embedding.bias', 'instance_scorer.weight',
       'instance_scorer.bias']  # fmt: skip
CLASSES = ['decode_head.conv_seg.weight', 'decode_head.conv_seg.bias']


def config_of_weights(url: str) -> Path:
    """The config that mmseg's list of trained models names for the file at an address; the onedl fork has it on another host."""
    models = load(ZOO / 'configs/deeplabv3plus/metafile.yaml')['Models']
    (model,) = [model for model in models if model['Weights'].split('/')[-1] == url.split('/')[-1]]
    return ZOO / model['Config']


@pytest.mark.parametrize('depth', [50, 101])
def test_the_address_is_that_of_the_model_on_voc(depth):
    path = config_of_weights(Config.fromfile(CONFIGS / f'instancenet_r{depth}_coco.py').load_from)
    assert path.name == f'deeplabv3plus_r{depth}-d8_4xb4-40k_voc12aug-512x512.py'
    assert Config.fromfile(path).model.decode_head.num_classes == 21


@pytest.fixture
def checkpoint(tmp_path):
    """Path and weights of a file as the zoo's, every value of it drawn."""
    config = Config.fromfile(config_of_weights(Config.fromfile(CONFIGS / 'instancenet_r50_coco.py').load_from))
    torch.manual_seed(0)
    weights = {
        name: torch.rand_like(value) if value.is_floating_point() else torch.full_like(value, 40000)
        for name, value in MODELS.build(config.model).state_dict().items()
    }
    path = tmp_path / 'voc.pth'
    torch.save({'meta': {'CLASSES': ('aeroplane', 'bicycle'), 'mmseg_version': '0.6'}, 'state_dict': weights}, path)
    yield path, weights
    path.unlink()  # 170 MB, which pytest would keep


def test_all_but_the_classes_arrives_and_the_report_names_what_is_new(checkpoint, tmp_path):
    path, weights = checkpoint
    config = Config.fromfile(CONFIGS / 'instancenet_r50_coco.py')
    config.load_from = str(path)
    config.work_dir, config.experiment_name, config.log_level = str(tmp_path / 'run'), tmp_path.name, 'WARNING'
    runner = Runner.from_cfg(config)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    # MMEngine's loggers hand nothing on to pytest's.
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    runner.logger.addHandler(handler)
    runner.logger.setLevel('INFO')
    runner.load_or_resume()

    after = runner.model.state_dict()
    arrived = [name for name in after if name not in (*NEW, *CLASSES)]
    assert all(torch.equal(after[name].cpu(), weights[name]) for name in arrived)
    assert not any(torch.equal(after[name].cpu(), before[name].cpu()) for name in arrived)
    for name in (*NEW, *CLASSES):
        assert torch.equal(after[name].cpu(), before[name].cpu()), name
    (report,) = [line for line in lines if line.startswith('loaded ')]
    assert report == str(
        LoadReport(
            loaded=len(arrived),
            total=len(after),
            other_shape={CLASSES[0]: ((21, 512, 1, 1), (81, 512, 1, 1)), CLASSES[1]: ((21,), (81,))},
            missing=NEW,
            left_over=[name for name in weights if name.startswith('auxiliary_head.')],
        )
    )
    assert len(arrived) == 330 + 86 - 2  # the backbone, and mmseg's head without its class scores
