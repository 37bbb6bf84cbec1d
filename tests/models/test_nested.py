"""Types inside the config of a loss are found in any default scope."""

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope, init_default_scope
from mmseg.registry import MODELS

from mmseg_instancenet.models import MeanShiftGrouping, RecurrentLoss, SphericalPairLoss
from mmseg_instancenet.models.nested import build_nested

RECURRENT = dict(
    type='mmseg.RecurrentLoss',
    loss=dict(type='SphericalPairLoss', margin=0.25),
    grouping=dict(type='MeanShiftGrouping', class_agnostic=True),
)


@pytest.mark.parametrize('registry', [MMDET_MODELS, MODELS, ROOT_MODELS], ids=['mmdet', 'mmseg', 'mmengine'])
@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmengine'])
def test_a_loss_of_losses_is_built_in_every_scope(registry, scope):
    init_default_scope(scope)
    loss = registry.build(RECURRENT)
    assert (type(loss), type(loss.loss), type(loss.grouping)) == (RecurrentLoss, SphericalPairLoss, MeanShiftGrouping)
    assert loss.loss.margin == 0.25
    assert DefaultScope.get_current_instance().scope_name == scope
    embeddings = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    ids = (torch.arange(16) % 3).view(1, 4, 4)
    init_default_scope('mmseg')
    expected = MODELS.build({**RECURRENT, 'type': 'RecurrentLoss'})(embeddings, ids)['loss_embedding']
    assert torch.equal(loss(embeddings, ids)['loss_embedding'], expected)


def test_a_prefix_and_a_scope_of_its_own_still_decide():
    init_default_scope('mmdet')
    of_mmdet = MMDET_MODELS.get('CrossEntropyLoss')
    assert type(build_nested(dict(type='CrossEntropyLoss'))) is MODELS.get('CrossEntropyLoss') is not of_mmdet
    assert type(build_nested(dict(type='mmdet.CrossEntropyLoss'))) is of_mmdet
    assert type(build_nested(dict(type='CrossEntropyLoss', _scope_='mmdet'))) is of_mmdet


def test_an_unknown_name():
    init_default_scope('mmdet')
    with pytest.raises(KeyError, match='NoLoss is not in the mmseg::model registry'):
        build_nested(dict(type='NoLoss'))
