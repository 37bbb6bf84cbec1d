"""Training in several processes on CPUs."""

from typing import Any

from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS
from torch import nn


@MODEL_WRAPPERS.register_module()  # MMEngine's registry: the Runner looks up wrappers there, whatever the scope
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """MMEngine's ``MMDistributedDataParallel`` for CPUs: SyncBN, which torch has for GPUs only, becomes batch norm.

    MMEngine's Runner does so with one process. The weights and statistics stay, so checkpoints of either load; each process
    normalises by its own images.

    Args:
        module: the model.
        **kwargs: those of ``MMDistributedDataParallel``.
    """

    def __init__(self, module: nn.Module, **kwargs: Any) -> None:
        super().__init__(module=revert_sync_batchnorm(module), **{**kwargs, 'device_ids': None})
