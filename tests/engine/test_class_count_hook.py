"""Check that head and data have the same classes."""

from types import SimpleNamespace

import pytest
from mmseg.evaluation import IoUMetric
from mmseg.models.decode_heads import FCNHead, STDCHead
from mmseg.registry import HOOKS
from torch import nn

from mmseg_instancenet.engine import ClassCountHook
from mmseg_instancenet.evaluation import ForegroundIoUMetric

STAGES = ('train', 'val', 'test')


def make_head(num_classes):
    head = FCNHead(in_channels=1, channels=1, num_convs=0, num_classes=num_classes)
    head.loss_decode.num_classes = 1234  # a part of a head is no head
    return head


def make_runner(classes, decode, auxiliary=(), wrap=lambda model: model, stage='train'):
    model = nn.Module()
    model.backbone = nn.Linear(1, 1)
    model.backbone.num_classes = 1000
    model.decode_head = make_head(decode)
    if auxiliary:
        heads = [make_head(count) for count in auxiliary]
        model.auxiliary_head = heads[0] if len(heads) == 1 else nn.ModuleList(heads)
    metainfo = {} if classes is None else {'classes': classes}
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=metainfo))
    model.background = True
    evaluator = SimpleNamespace(metrics=[])
    return SimpleNamespace(
        model=wrap(model), **{f'{stage}_dataloader': loader, 'val_evaluator': evaluator, 'test_evaluator': evaluator}
    )


@pytest.mark.parametrize('stage', STAGES)
@pytest.mark.parametrize('wrap', [lambda model: model, nn.DataParallel])
def test_names_the_head_and_both_numbers(stage, wrap):
    check = getattr(HOOKS.build({'type': 'ClassCountHook'}), f'before_{stage}')
    runner = make_runner(('cat', 'dog'), decode=2, wrap=wrap, stage=stage)
    message = r'model\.decode_head has num_classes=2, but the data have 2 classes: expected num_classes=3 \(background'
    with pytest.raises(ValueError, match=message):
        check(runner)
    check(make_runner(('cat', 'dog'), decode=3, wrap=wrap, stage=stage))


@pytest.mark.parametrize(
    'auxiliary, name', [((21,), 'auxiliary_head'), ((81, 21), r'auxiliary_head\.1'), ((21, 81), r'auxiliary_head\.0')]
)
def test_auxiliary_heads(auxiliary, name):
    classes = tuple(map(str, range(80)))
    message = (
        rf'model\.{name} has num_classes=21, but the data have 80 classes: expected num_classes=81.*model\.{name}\.num'
    )
    with pytest.raises(ValueError, match=message):
        ClassCountHook().before_train(make_runner(classes, 81, auxiliary))
    ClassCountHook().before_train(make_runner(classes, 81, [81] * len(auxiliary)))


def test_data_without_classes_are_not_checked():
    ClassCountHook().before_train(make_runner(None, decode=2))


def test_a_head_that_predicts_boundaries_is_not_checked():
    """STDC trains its fine features by an auxiliary head with two classes, whatever the data's are."""
    runner = make_runner(tuple('abcd'), decode=5, auxiliary=(5, 2))
    boundaries = STDCHead(boundary_threshold=0.1, in_channels=1, channels=1, num_convs=0, num_classes=2)
    runner.model.auxiliary_head[1] = boundaries
    ClassCountHook().before_train(runner)
    runner.model.auxiliary_head[0].num_classes = 4
    with pytest.raises(ValueError, match=r'auxiliary_head\.0 has num_classes=4'):
        ClassCountHook().before_train(runner)


def test_classes_from_0_without_a_background():
    runner = make_runner(('road', 'car'), decode=2)
    runner.model.background = False
    ClassCountHook().before_train(runner)
    runner.model.decode_head.num_classes = 3
    with pytest.raises(ValueError, match=r'num_classes=3, .* expected num_classes=2 \(no background\)'):
        ClassCountHook().before_train(runner)


@pytest.mark.parametrize('stage', ['val', 'test'])
def test_mmsegs_iou_on_maps_with_a_background(stage):
    """It would print the background as the first class and leave out the last."""
    runner = make_runner(('cat', 'dog'), decode=3, stage=stage)
    check = getattr(ClassCountHook(), f'before_{stage}')
    runner.val_evaluator.metrics.append(ForegroundIoUMetric())
    check(runner)
    runner.val_evaluator.metrics.append(IoUMetric())
    with pytest.raises(ValueError, match='expected ForegroundIoUMetric'):
        check(runner)
    runner.model.background, runner.model.decode_head.num_classes = False, 2
    check(runner)


@pytest.mark.parametrize('stage', STAGES)
def test_joined_data_sets_have_one_list_of_classes(stage):
    """If the meta information of its sets differs, as the annotation file does, mmdet's ConcatDataset keeps a list of
    it."""
    runner = make_runner(('cat', 'dog'), decode=3, stage=stage)
    dataset = getattr(runner, f'{stage}_dataloader').dataset
    check = getattr(ClassCountHook(), f'before_{stage}')
    dataset.metainfo = [{'classes': ('cat', 'dog'), 'ann_file': name} for name in 'ab']
    check(runner)
    for other in (('dog', 'cat'), ('cat',), None):
        dataset.metainfo[1]['classes'] = other
        with pytest.raises(ValueError, match=r"expected the same classes .* got \('cat', 'dog'\) and "):
            check(runner)
    dataset.metainfo = [{'classes': ('cat',)}] * 2
    with pytest.raises(ValueError, match='num_classes=3, but the data have 1 classes'):
        check(runner)
