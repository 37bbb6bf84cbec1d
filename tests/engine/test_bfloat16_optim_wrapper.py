"""Mixed precision without a GPU."""

import copy
from contextlib import contextmanager

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmseg_instancenet.engine import BFloat16OptimWrapper


class Network(BaseModel):
    """A convolution, whose output's type is kept, and a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, inputs: torch.Tensor, mode: str = 'tensor') -> dict:
        self.output = self.conv(inputs)
        return {'loss': self.output.float().square().mean()}


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def inputs(count: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 8, 8, generator=generator) for _ in range(count)]


def wrapper(model: Network, **settings) -> BFloat16OptimWrapper:
    return BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), **settings)


def test_forward_in_bfloat16_and_weights_in_float32(device):
    model, image = network().to(device), inputs()[0].to(device)
    exact = model.conv(image)
    assert exact.dtype == torch.float32
    optim_wrapper = wrapper(model)
    with optim_wrapper.optim_context(model):
        loss = model(image)['loss']
    assert model.output.dtype == torch.bfloat16 and loss.dtype == torch.float32
    # Eight binary digits: close to the exact result, and not the same.
    torch.testing.assert_close(model.output.float(), exact, rtol=0.02, atol=0.02)
    assert not torch.equal(model.output.float(), exact)
    loss.backward()
    for parameter in model.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
    assert model.conv(image).dtype == torch.float32  # afterwards


@pytest.mark.parametrize(
    ('settings', 'in_float32'),
    [
        (dict(kernel_size=5, groups=8), True),
        (dict(kernel_size=3, stride=2, groups=8), True),
        (dict(kernel_size=3, stride=(1, 2), groups=8), True),
        (dict(kernel_size=3, groups=8), False),  # faster in bfloat16
        (dict(kernel_size=5, stride=2, groups=4), False),  # not depthwise
        (dict(kernel_size=5, stride=2), False),
    ],
    ids=['5x5', 'stride', 'stride in one direction', '3x3', 'grouped', 'dense'],
)
def test_depthwise_convolutions_that_bfloat16_slows_down(settings, in_float32):
    """Rounded once, at the end: result and gradient are those of float32, rounded."""
    torch.manual_seed(0)
    conv, image = nn.Conv2d(8, 8, **settings), torch.randn(2, 8, 9, 9)
    reference = copy.deepcopy(conv)
    exact = reference(image)
    with wrapper(conv).optim_context(conv):
        output = conv(image)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, exact.bfloat16()) == in_float32
    upstream = torch.randn(output.shape).bfloat16()
    output.backward(upstream)
    exact.backward(upstream.float())
    assert torch.equal(conv.weight.grad, reference.weight.grad) == in_float32
    torch.testing.assert_close(conv.weight.grad, reference.weight.grad, rtol=0.05, atol=0.2)


def test_context_ends_with_an_error():
    model = network()
    with pytest.raises(ZeroDivisionError), wrapper(model).optim_context(model):
        raise ZeroDivisionError
    assert model.conv(inputs()[0]).dtype == torch.float32


def test_training_step_changes_the_weights_as_float32_does(device):
    model = network().to(device)
    before = copy.deepcopy(model)
    model.train_step([inputs()[0].to(device)], wrapper(model))
    assert model.output.dtype == torch.bfloat16
    before(inputs()[0].to(device))['loss'].backward()
    for parameter, old in zip(model.parameters(), before.parameters(), strict=True):
        step, expected = parameter.detach() - old.detach(), -0.1 * old.grad
        torch.testing.assert_close(step, expected, rtol=0.02, atol=0.02 * expected.abs().max().item())
        assert step.abs().max() > 1e-3


def test_loss_falls():
    model = network()
    optim_wrapper = wrapper(model)
    losses = [model.train_step([image], optim_wrapper)['loss'].item() for image in inputs(1) * 30]
    assert losses[-1] < 0.3 * losses[0]


def test_gradients_are_accumulated():
    """Two half batches move the weights once, by the mean of both gradients."""
    model = network()
    reference, start = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    optim_wrapper = wrapper(model, accumulative_counts=2)
    optim_wrapper.initialize_count_status(model, 0, 4)
    first, second = inputs(2)
    model.train_step([first], optim_wrapper)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    model.train_step([second], optim_wrapper)
    (sum(reference(image)['loss'] for image in (first, second)) / 2).backward()
    for parameter, old in zip(model.parameters(), reference.parameters(), strict=True):
        step, expected = parameter.detach() - old.detach(), -0.1 * old.grad
        torch.testing.assert_close(step, expected, rtol=0.02, atol=0.02 * expected.abs().max().item())


def test_gradients_are_not_synchronised_before_the_last_of_several_batches():
    """As MMEngine's own context for distributed training."""
    model, entered = network(), []

    @contextmanager
    def no_sync():
        entered.append(True)
        yield

    model.no_sync = no_sync
    optim_wrapper = wrapper(model, accumulative_counts=2)
    optim_wrapper.initialize_count_status(model, 0, 4)
    for image, expected in zip(inputs(4), (1, 1, 2, 2), strict=True):
        model.train_step([image], optim_wrapper)
        assert len(entered) == expected and model.output.dtype == torch.bfloat16


def test_from_a_config():
    model = network()
    config = {
        'type': 'BFloat16OptimWrapper',
        'optimizer': {'type': 'AdamW', 'lr': 0.01},
        'accumulative_counts': 3,
        'clip_grad': {'max_norm': 10},
    }
    optim_wrapper = build_optim_wrapper(model, config)
    assert type(optim_wrapper) is BFloat16OptimWrapper and type(optim_wrapper.optimizer) is torch.optim.AdamW
    assert optim_wrapper._accumulative_counts == 3 and optim_wrapper.clip_grad_kwargs == {'max_norm': 10}
    with optim_wrapper.optim_context(model):
        model(inputs()[0])
    assert model.output.dtype == torch.bfloat16
