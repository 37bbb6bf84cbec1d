"""Which tensors of a checkpoint were loaded."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmseg_instancenet.engine import LoadReport, LoadReportHook, load_report


class Network(BaseModel):
    def __init__(self, classes=3):
        super().__init__()
        self.backbone = nn.Linear(2, 4)
        self.decode_head = nn.Linear(4, classes)

    def forward(self, inputs, mode='tensor'):
        return self.decode_head(self.backbone(inputs))


def test_report_of_every_kind():
    model = {'a': torch.zeros(2), 'b.weight': torch.zeros(3, 4), 'c': torch.zeros(()), 'd': torch.zeros(1)}
    checkpoint = {
        'meta': {'epoch': 3},
        'state_dict': {'a': torch.ones(2), 'b.weight': torch.ones(5, 4), 'c': torch.ones(()), 'old': torch.ones(7)},
    }
    report = load_report(checkpoint, model)
    assert report == LoadReport(
        loaded=2, total=4, other_shape={'b.weight': ((5, 4), (3, 4))}, missing=['d'], left_over=['old']
    )
    assert str(report).split('\n') == [
        'loaded 2 of the 4 tensors of the model',
        'kept as initialised, other shape in the checkpoint (1): b.weight (5, 4) -> (3, 4)',
        'kept as initialised, not in the checkpoint (1): d',
        'left over in the checkpoint (1): old',
    ]


def test_report_is_one_line_if_every_tensor_is_loaded():
    state = Network().state_dict()
    line = f'loaded {len(state)} of the {len(state)} tensors of the model'
    assert str(load_report({'state_dict': state}, state)) == line
    # Bare weights, and weights of a wrapped model.
    assert str(load_report(state, state)) == line
    wrapped = {f'module.{name}': value for name, value in state.items()}
    assert str(load_report({'state_dict': wrapped}, state)) == line


def test_report_keeps_names_that_only_contain_module():
    state = {'my.module.weight': torch.zeros(2)}
    assert load_report({'my.module.weight': torch.zeros(2)}, state) == LoadReport(1, 1, {}, [], [])


def test_report_agrees_with_what_is_loaded():
    model, other = Network(classes=3), Network(classes=5)
    report = load_report({'state_dict': other.state_dict()}, model.state_dict())
    other_shape = {'decode_head.weight': ((5, 4), (3, 4)), 'decode_head.bias': ((5,), (3,))}
    assert report == LoadReport(2, 4, other_shape, [], [])
    assert 'decode_head.weight (5, 4) -> (3, 4), decode_head.bias (5,) -> (3,)' in str(report)
    assert len(str(report).splitlines()) == 2


@pytest.mark.parametrize('wrap', [lambda model: model, nn.DataParallel])
def test_hook_logs_the_report(wrap):
    lines = []
    runner = SimpleNamespace(model=wrap(Network()), logger=SimpleNamespace(info=lines.append))
    checkpoint = {'state_dict': Network(classes=2).state_dict()}
    LoadReportHook().after_load_checkpoint(runner, checkpoint)
    assert lines == [str(load_report(checkpoint, Network().state_dict()))]
    assert '(2, 4) -> (3, 4)' in lines[0]


def make_runner(work_dir, model):
    hooks = [HOOKS.build({'type': 'mmseg.LoadReportHook'})]
    return Runner(
        model,
        work_dir=str(work_dir),
        custom_hooks=hooks,
        default_scope=DefaultScope.get_current_instance().scope_name,
        log_level='WARNING',
        experiment_name=f'load_report_{id(model)}',
    )


def test_runner_reports_and_loads(tmp_path):
    saved, model = Network(), Network()
    torch.save({'state_dict': {f'module.{k}': v for k, v in saved.state_dict().items()}}, tmp_path / 'good.pth')
    runner = make_runner(tmp_path, model)
    # MMEngine's loggers hand nothing on to pytest's.
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    runner.logger.addHandler(handler)
    runner.logger.setLevel('INFO')
    runner.load_checkpoint(str(tmp_path / 'good.pth'))
    assert 'loaded 4 of the 4 tensors of the model' in lines
    assert torch.equal(model.decode_head.weight.cpu(), saved.decode_head.weight)  # the runner moved the model


def test_runner_refuses_a_checkpoint_that_gives_nothing(tmp_path):
    model = Network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrong = {f'encoder.{name}': value + 1 for name, value in model.state_dict().items()}
    torch.save({'state_dict': wrong}, tmp_path / 'wrong.pth')
    with pytest.raises(ValueError, match=r'shares no tensor with the model:\nloaded 0 of the 4') as error:
        make_runner(tmp_path, model).load_checkpoint(str(tmp_path / 'wrong.pth'))
    assert 'left over in the checkpoint (4): encoder.backbone.weight' in str(error.value)
    assert all(
        torch.equal(value.cpu(), before[name]) for name, value in model.state_dict().items()
    )  # the runner moved it


@pytest.mark.parametrize('shared', [0, 1])
def test_the_hook_reads_the_number_and_not_the_text(shared, monkeypatch):
    monkeypatch.setattr(LoadReport, '__str__', lambda report: 'ten thousand tensors')
    model = nn.Linear(2, 3)
    runner = SimpleNamespace(model=model, logger=SimpleNamespace(info=lambda line: None))
    checkpoint = {'bias' if shared else 'other': torch.zeros(3)}
    if shared:
        LoadReportHook().after_load_checkpoint(runner, checkpoint)
    else:
        with pytest.raises(ValueError, match='ten thousand'):
            LoadReportHook().after_load_checkpoint(runner, checkpoint)


def test_one_shared_tensor_is_enough():
    runner = SimpleNamespace(model=nn.Linear(2, 3), logger=SimpleNamespace(info=lambda line: None))
    LoadReportHook().after_load_checkpoint(runner, {'bias': torch.zeros(3)})
    with pytest.raises(ValueError, match='shares no tensor'):
        LoadReportHook().after_load_checkpoint(runner, {'bias': torch.zeros(2)})
