"""Mixed precision on a CPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _DepthwiseInFloat32(TorchFunctionMode):
    """Computes depthwise convolutions with a stride or a large kernel in float32, and returns bfloat16, as autocast
    does.

    Their backward pass takes a CPU 5 to 16 times as long in bfloat16 (torch 2.15.0): half of an iteration of
    EfficientNet-Lite0. Those of 3 x 3 without a stride are a little faster in bfloat16.
    """

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        kwargs = kwargs or {}
        if func is torch.conv2d and _is_slow_in_bfloat16(*args, **kwargs):
            args = tuple(_in_float32(value) for value in args)
            kwargs = {name: _in_float32(value) for name, value in kwargs.items()}
            with torch.autocast('cpu', enabled=False):
                return func(*args, **kwargs).bfloat16()
        return func(*args, **kwargs)


def _is_slow_in_bfloat16(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Whether a call of ``torch.conv2d`` is a depthwise convolution with a stride or a kernel larger than 3 x 3."""
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    return groups > 1 and weight.shape[1] == 1 and (max(weight.shape[2:]) > 3 or max(strides) > 1)


def _in_float32(value: object) -> object:
    return value.float() if isinstance(value, Tensor) else value


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs the forward pass in bfloat16 on any device; MMEngine's ``AmpOptimWrapper`` refuses a CPU.

    bfloat16 has the range of float32, so that no loss is scaled. Weights, gradients, losses and embeddings' grouping stay in
    float32; on a CPU so do depthwise convolutions with a stride or a large kernel, which are faster then. It is for CPUs with
    bfloat16 instructions (AVX512-BF16, AMX), others emulate them. Measured on an AMD EPYC with AVX512-BF16, one thread, seconds
    an iteration: a U-Net on eight crops of 128 pixels with 16 channels and five stages 0.277 to 0.167, with 32 channels and four
    stages 0.773 to 0.363; EfficientNet-Lite0 with UPerNet's head on four crops of 384 pixels 0.65, and 1.16 with all of it in
    bfloat16.

    Args: those of MMEngine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        exceptions = _DepthwiseInFloat32() if device == 'cpu' else nullcontext()
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16), exceptions:
            yield
