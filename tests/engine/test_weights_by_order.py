"""Weights renamed to the names of another implementation, and refused ones."""

import pytest
import torch
from torch import nn

from mmseg_instancenet.engine.weights_by_order import keep_named, rename_by_order


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def foreign() -> dict[str, torch.Tensor]:
    values = enumerate(network().state_dict().values())
    return {f'layer{index}': torch.full_like(value, index) for index, value in values}


def test_the_first_gets_the_first_name():
    model = network()
    model.load_state_dict(rename_by_order(foreign(), model.state_dict()))
    assert {name: value.unique().tolist() for name, value in model.state_dict().items()} == {
        '0.weight': [0],
        '0.bias': [1],
        '1.weight': [2],
        '1.bias': [3],
        '1.running_mean': [4],
        '1.running_var': [5],
        '1.num_batches_tracked': [6],
    }


def test_another_number_of_tensors():
    weights = foreign()
    del weights['layer1']
    with pytest.raises(ValueError, match='expected 7 tensors, as the model has, got 6: these weights are not those'):
        rename_by_order(weights, network().state_dict())


@pytest.mark.parametrize(
    ('value', 'got'), [(torch.zeros(3), r'float32 \(3,\)'), (torch.zeros(2).half(), r'float16 \(2,\)')]
)
def test_another_shape_or_type(value, got):
    with pytest.raises(
        ValueError, match=rf'expected torch.float32 \(2,\) for 1.weight, tensor 3 of 7, got torch.{got} of layer2'
    ):
        rename_by_order(foreign() | {'layer2': value}, network().state_dict())


def test_tensors_that_the_model_lacks_are_dropped_if_allowed():
    weights = {name: torch.full((1,), index) for index, name in enumerate(('a.w', 'b.w', 'head.w', 'head.b'))}
    kept = keep_named(weights, ['a.w', 'b.w'], droppable=['head'])
    assert {name: int(value) for name, value in kept.items()} == {'a.w': 0, 'b.w': 1}
    with pytest.raises(ValueError, match='no more but of head; missing: none; left over: b.w'):
        keep_named(weights, ['a.w'], droppable=['head'])
    with pytest.raises(ValueError, match='missing: c.w; left over: none'):
        keep_named(weights, ['a.w', 'b.w', 'c.w'], droppable=['head'])
