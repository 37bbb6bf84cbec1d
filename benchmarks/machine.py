"""Description of the machine on which a benchmark ran."""

import platform
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mmseg_instancenet.analysis.measure import seconds_of

_MATRIX_SIDE = 2048


def devices() -> list[str]:
    """The available devices of torch: 'cpu', and 'cuda' with a GPU."""
    return ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']


def describe_machine() -> dict[str, Any]:
    """Kind of machine, without its name: system, processor, torch's number of threads, versions, GPU or None."""
    return {
        'system': f'{platform.system()} {platform.machine()}',
        'cpu': processor(),
        'threads': torch.get_num_threads(),
        'memory_bytes': _memory_line('MemTotal'),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'gpu': torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        'matrix_product_gflops': {device: round(matrix_product_gflops(device), 1) for device in devices()},
    }


def matrix_product_gflops(device: str, side: int = _MATRIX_SIDE) -> float:
    """Speed of the machine's own matrix product in float32, in 1e9 operations a second: median of five."""
    matrix = torch.rand(side, side, device=device)
    seconds_of(lambda: matrix @ matrix, device)
    return 2 * side**3 / median(seconds_of(lambda: matrix @ matrix, device) for _ in range(5)) / 1e9


def available_bytes(device: str) -> int | None:
    """Free memory of a device in bytes; ``None`` if the system does not report it."""
    if device == 'cuda':
        return torch.cuda.mem_get_info()[0]
    return _memory_line('MemAvailable')


def _memory_line(name: str) -> int | None:
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{name}:')), None)


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    return next(names, platform.processor() or 'unknown')
