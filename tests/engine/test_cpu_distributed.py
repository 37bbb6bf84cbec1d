"""SyncBN in several processes on CPUs."""

import pytest
import torch
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from mmseg_instancenet.engine import CPUDistributedDataParallel


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_sync_bn_becomes_batch_norm_with_its_weights_and_statistics(process_group):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.SyncBatchNorm(4)), nn.BatchNorm2d(4))
    nn.init.normal_(model[1][0].weight)
    model[1][0].running_mean.normal_()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapped = MODEL_WRAPPERS.build(
        dict(type='CPUDistributedDataParallel', broadcast_buffers=False),
        default_args=dict(module=model, device_ids=[0]),  # as MMEngine's Runner calls it
    )
    assert isinstance(wrapped, CPUDistributedDataParallel)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in wrapped.modules())
    after = wrapped.module.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[name], before[name]) for name in before)
    images = torch.randn(5, 3, 6, 6)
    features = model[0](images)
    expected = (features - features.mean((0, 2, 3), keepdim=True)) / (
        features.var((0, 2, 3), keepdim=True, correction=0) + 1e-5
    ).sqrt()
    expected = expected * before['1.0.weight'][:, None, None] + before['1.0.bias'][:, None, None]
    torch.testing.assert_close(wrapped.module[1](features), expected)
    wrapped(images).sum().backward()
    assert all(parameter.grad is not None for parameter in wrapped.parameters())
