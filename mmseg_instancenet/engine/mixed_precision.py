"""Choice of the number format of a training and of a prediction from what the device computes."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device

_INSTRUCTIONS = ('avx512_bf16', 'amx_bf16')


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has instructions that multiply bfloat16 (AVX512-BF16 or AMX), and torch's library for them.

    torch 2.15 lists the instructions of a CPU, and Linux does so in ``/proc/cpuinfo`` for an older torch. On other systems
    with an older torch the answer is False.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    if hasattr(torch.cpu, 'get_capabilities'):
        return any(torch.cpu.get_capabilities().get(name) for name in _INSTRUCTIONS)
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(':')[2].split() for line in lines if line.startswith('flags')), [])
    return any(name in flags for name in _INSTRUCTIONS)


def gpu_has_bfloat16() -> bool:
    """Whether torch's current GPU multiplies bfloat16: NVIDIA's from compute capability 8.0 on (Ampere), or AMD's."""
    return torch.version.hip is not None or torch.cuda.get_device_capability()[0] >= 8


def use_mixed_precision(config: Config) -> None:
    """Sets up a training in the half precision that its device computes, and prints one line that names it.

    - a GPU with bfloat16 (:func:`gpu_has_bfloat16`): bfloat16, by :class:`BFloat16OptimWrapper`, which needs no loss scale;
    - another GPU: float16 with MMEngine's dynamic loss scale, by ``AmpOptimWrapper``;
    - a CPU with bfloat16 (:func:`cpu_has_bfloat16`): bfloat16;
    - another CPU or device: float32, as the line says with the reason.

    Weights, gradients, losses and grouping stay in float32.

    Args:
        config: of a training; ``type``, ``loss_scale`` and ``dtype`` of its ``optim_wrapper`` are replaced. A wrapper of the
            chosen type keeps its settings.

    Example:
        >>> config = Config({'optim_wrapper': {'type': 'OptimWrapper', 'clip_grad': {'max_norm': 10}}})
        >>> use_mixed_precision(config)  # doctest: +ELLIPSIS
        --amp: ...
        >>> config.optim_wrapper.clip_grad
        {'max_norm': 10}
    """
    kind, line = _choice(get_device())
    print(f'--amp: {line}')
    wrapper = config.optim_wrapper
    if wrapper.get('type') == kind:
        return
    for key in ('loss_scale', 'dtype'):
        wrapper.pop(key, None)
    wrapper.type = kind
    if kind == 'AmpOptimWrapper':
        wrapper.loss_scale = 'dynamic'


def prediction_type(device: str) -> torch.dtype:
    """The type in which a network predicts with ``--amp``, named in one printed line: float16 on a GPU, bfloat16 on a CPU that
    has it (:func:`cpu_has_bfloat16`), float32 elsewhere, with the reason.

    Args:
        device: 'cuda', 'cpu', ..
    """
    if device == 'cuda':
        dtype, line = torch.float16, 'float16'
    elif device == 'cpu' and cpu_has_bfloat16():
        dtype, line = torch.bfloat16, _BFLOAT16_ON_CPU
    else:
        dtype, line = torch.float32, _float32_on(device)
    print(f'--amp: {line}')
    return dtype


_BFLOAT16_ON_CPU = 'bfloat16 on the CPU'


def _float32_on(device: str) -> str:
    """The line of a device without mixed precision."""
    if device != 'cpu':
        return f'float32, since mixed precision is set up for CUDA, ROCm and CPUs, not for {device}'
    return (
        'float32, since this CPU has no bfloat16 instructions (AVX512-BF16 or AMX) that torch can use, and would emulate them '
        'more slowly'
    )


def _choice(device: str) -> tuple[str, str]:
    """The type of the optimizer wrapper, and the line."""
    if device == 'cuda':
        name = torch.cuda.get_device_name()
        if gpu_has_bfloat16():
            return 'BFloat16OptimWrapper', f'bfloat16 on {name}'
        return 'AmpOptimWrapper', f'float16 with a loss scale on {name}, which has no bfloat16'
    if device == 'cpu' and cpu_has_bfloat16():
        return 'BFloat16OptimWrapper', _BFLOAT16_ON_CPU
    return 'OptimWrapper', _float32_on(device)
