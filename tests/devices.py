"""The devices on which tests run, and the tolerance of a GPU against a CPU."""

import torch

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']


def assert_same(actual, expected):
    """Equal to the last bit on a CPU. A GPU adds up in an order that changes from run to run: there only close."""
    if actual.device.type == 'cpu':
        assert torch.equal(actual, expected)
    else:
        torch.testing.assert_close(actual.cpu(), expected.cpu(), rtol=1e-5, atol=1e-6)


def slack(device):
    """Factor on the tolerances of mean shift: the attention of a GPU makes float32 products of several TF32 ones."""
    return 1 if device == 'cpu' else 10


def gradcheck(function, x):
    """torch's gradcheck, with a tolerance for repeated calls on a GPU, whose sums differ by their rounding."""
    return torch.autograd.gradcheck(function, x, nondet_tol=0.0 if x.device.type == 'cpu' else 1e-10)
