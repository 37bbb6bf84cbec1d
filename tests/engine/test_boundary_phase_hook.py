"""The hook for the two phases of a boundary head."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmseg.registry import HOOKS
from torch import nn

from mmseg_instancenet.engine import BoundaryPhaseHook


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_seg = nn.Conv2d(1, 1, 1)
        self.phases = []

    def set_phase(self, phase):
        self.phases.append(phase)


def make_runner(hook, epoch=0, head=None):
    model = nn.Module()
    model.decode_head = head or Head()
    runner = SimpleNamespace(model=model, hooks=[hook], epoch=epoch, iter=10 * epoch, train_loop=None)
    runner.logger = SimpleNamespace(info=lambda line: None)
    hook.before_run(runner)
    hook.before_train(runner)
    return runner


@pytest.mark.parametrize('by_epoch', [True, False])
def test_embedding_first_then_fusion(by_epoch):
    hook = HOOKS.build({'type': 'BoundaryPhaseHook', 'until': 2 if by_epoch else 12, 'by_epoch': by_epoch})
    runner = make_runner(hook)
    head = runner.model.decode_head
    seen = []
    for runner.epoch in range(3):
        hook.before_train_epoch(runner)
        for batch in range(10):
            runner.iter = 10 * runner.epoch + batch
            hook.before_train_iter(runner, batch)
            seen.append((head.phases[-1], head.conv_seg.weight.requires_grad))
    switch = 20 if by_epoch else 12
    assert seen == [('embedding', False)] * switch + [('fusion', True)] * (30 - switch)


@pytest.mark.parametrize(('epoch', 'phase'), [(1, 'embedding'), (2, 'fusion'), (5, 'fusion')])
def test_a_training_that_resumes_is_in_the_phase_of_its_epoch(epoch, phase):
    runner = make_runner(BoundaryPhaseHook(until=2), epoch)
    assert runner.model.decode_head.phases[-1] == phase
    assert runner.model.decode_head.conv_seg.weight.requires_grad == (phase == 'fusion')


def test_another_head_is_refused():
    head = nn.Module()
    head.conv_seg = nn.Conv2d(1, 1, 1)
    with pytest.raises(TypeError, match='expected a decode_head with set_phase, such as BoundaryHead, got Module'):
        make_runner(BoundaryPhaseHook(until=1), head=head)


def test_the_head_is_found_inside_a_wrapper(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        hook = BoundaryPhaseHook(until=1)
        model = nn.Module()
        model.backbone, model.decode_head = nn.Linear(1, 1), Head()
        runner = SimpleNamespace(
            hooks=[hook], epoch=0, logger=SimpleNamespace(info=lambda line: None), cfg={}, train_loop=None
        )
        runner.wrap_model = lambda config, module: MMDistributedDataParallel(module)
        runner.model = MMDistributedDataParallel(model)
        hook.before_run(runner)
        hook.before_train(runner)
        assert model.decode_head.phases == ['embedding'] and runner.model.module is model
    finally:
        torch.distributed.destroy_process_group()
