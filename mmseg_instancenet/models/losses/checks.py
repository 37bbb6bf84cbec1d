"""What every embedding loss asks of its input."""

import torch
from torch import Tensor


def check_embeddings(embeddings_NDHW: Tensor, instance_map_NHW: Tensor) -> None:
    """Raises ValueError unless the embeddings are (N, D, H, W) floats and the instance map is (N, H, W)."""
    if embeddings_NDHW.dim() != 4 or not embeddings_NDHW.is_floating_point():
        raise ValueError(
            f'expected floating point embeddings (N, D, H, W), got {tuple(embeddings_NDHW.shape)} {embeddings_NDHW.dtype}'
        )
    num_images, _, height, width = embeddings_NDHW.shape
    if instance_map_NHW.shape != (num_images, height, width):
        raise ValueError(
            f'expected an instance map {(num_images, height, width)} for embeddings {tuple(embeddings_NDHW.shape)}, got '
            f'{tuple(instance_map_NHW.shape)}; resize the label maps with mmseg_instancenet.models.resize_labels'
        )


def zero_of(embeddings: Tensor) -> Tensor:
    """A zero that depends on every embedding, so that ignored pixels stay in the graph and every parameter gets a gradient.

    Raises:
        ValueError: if an embedding is NaN or infinite.
    """
    zero = embeddings.sum() * 0
    if not torch.isfinite(zero):
        raise ValueError(
            'expected finite embeddings, got NaN or infinity; the training has diverged: lower the learning rate, or clip '
            'gradients with optim_wrapper.clip_grad=dict(max_norm=...)'
        )
    return zero
