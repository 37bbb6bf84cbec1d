"""Error for batch norm over a single value in each channel, which has no variance."""

from functools import partial

from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle


def refuse_single_values(model: nn.Module, images: int, batch_of_one: str) -> list[RemovableHandle]:
    """Makes a forward pass raise ValueError at a batch norm over a single value in each channel, as after the image
    pooling of an ASPP.

    One value has no variance. Maps larger than 1 x 1, frozen batch norm and other norms pass.

    Args:
        model: to listen to.
        images: in the batch of that pass.
        batch_of_one: how the training comes to a batch of one image, for the message.

    Returns:
        handles, whose ``remove()`` ends the listening.
    """
    return [
        module.register_forward_pre_hook(partial(_check, name=name, images=images, batch_of_one=batch_of_one))
        for name, module in model.named_modules()
        # Over several processes the values of all of them count.
        if isinstance(module, _BatchNorm) and not (isinstance(module, nn.SyncBatchNorm) and get_world_size() > 1)
    ]


def _check(module: nn.Module, inputs: tuple[Tensor], name: str, images: int, batch_of_one: str) -> None:
    values = inputs[0].numel() // inputs[0].shape[1]
    if module.training and values <= images:
        raise ValueError(
            f'{name} is batch norm over one value a channel for each image, and one image alone has no variance; got '
            f'{batch_of_one}. Expected at least two images in each batch of the training (batch_size, drop_last=True), or '
            "norm_cfg=dict(type='GN', num_groups=...), or frozen batch norm there"
        )
