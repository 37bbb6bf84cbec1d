"""mmseg's decode heads with an embedding branch."""

from mmseg.models.decode_heads import DepthwiseSeparableASPPHead, FCNHead, UPerHead
from mmseg.registry import MODELS

from .embedding_mixin import EmbeddingMixin


@MODELS.register_module()
class EmbeddingHead(EmbeddingMixin, DepthwiseSeparableASPPHead):
    """DeepLabV3+ decode head with C class scores and D embedding values (Gao 2020).

    Args: those of :class:`EmbeddingMixin` and of mmseg's ``DepthwiseSeparableASPPHead``.

    Example:
        >>> import torch
        >>> head = EmbeddingHead(in_channels=8, in_index=1, channels=4, c1_in_channels=8, c1_channels=2, num_classes=21,
        ...     embedding_dims=4, norm_cfg=dict(type='BN')).eval()
        >>> head([torch.zeros(1, 8, 16, 16), torch.zeros(1, 8, 8, 8)]).shape
        torch.Size([1, 25, 16, 16])
    """


@MODELS.register_module()
class EmbeddingFCNHead(EmbeddingMixin, FCNHead):
    """FCN decode head with class scores and embeddings."""


@MODELS.register_module()
class EmbeddingUPerHead(EmbeddingMixin, UPerHead):
    """UPerNet decode head with class scores and embeddings."""
