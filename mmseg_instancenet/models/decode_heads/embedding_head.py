"""mmseg's decode heads with an embedding branch of their own."""

from typing import Any

from mmseg.models.decode_heads import DepthwiseSeparableASPPHead, FCNHead, UPerHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, SampleList
from torch import Tensor

from .embedding_branch import EmbeddingBranch


class EmbeddingMixin(BaseDecodeHead):
    """Base of decode heads that train embeddings by their own ``loss``, in any segmentor and also as auxiliary heads.

    ``EmbeddingSegmentor(embedding=...)`` gives any head such a branch without this. Scores, ``forward`` and ``predict`` stay
    mmseg's.

    Args:
        embedding_dims: D; this and the following as :class:`EmbeddingBranch` has them.
        loss_embedding: config of the loss on embeddings; ``None`` for testing only.
        features: name of the module whose output the embedding is made of.
        coordinates: the position in the image as input.
        pixels_per_unit: the position in the embedding.
        hidden_channels: width of a hidden layer.
        unit_length: embeddings of length 1.
        **kwargs: of the head. ``num_classes`` counts the background.
    """

    def __init__(
        self,
        *args: Any,
        embedding_dims: int = 4,
        loss_embedding: dict | None = None,
        features: str | None = None,
        coordinates: bool = False,
        pixels_per_unit: float | None = None,
        hidden_channels: int | None = None,
        unit_length: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.branch = EmbeddingBranch(
            self, embedding_dims, loss_embedding, features, coordinates, pixels_per_unit, hidden_channels, unit_length
        )

    def init_weights(self) -> None:
        self.branch.init_weights()
        super().init_weights()  # last, so that a pretrained head keeps its weights

    def loss(self, inputs: tuple[Tensor], batch_data_samples: SampleList, train_cfg: ConfigType) -> dict[str, Tensor]:
        """mmseg's class losses, and the losses on the embeddings."""
        self.branch.check_samples(batch_data_samples)
        with self.branch.listening() as features:
            losses = super().loss(inputs, batch_data_samples, train_cfg)
        losses.update(self.branch.loss(features, batch_data_samples))
        return losses


@MODELS.register_module()
class EmbeddingHead(EmbeddingMixin, DepthwiseSeparableASPPHead):
    """DeepLabV3+ decode head with C class scores and D embedding values (Gao 2020).

    Args: those of :class:`EmbeddingMixin` and of mmseg's ``DepthwiseSeparableASPPHead``.

    Example:
        >>> import torch
        >>> head = EmbeddingHead(in_channels=8, in_index=1, channels=4, c1_in_channels=8, c1_channels=2, num_classes=21,
        ...     embedding_dims=4, norm_cfg=dict(type='BN')).eval()
        >>> with head.branch.listening() as features:
        ...     scores = head([torch.zeros(1, 8, 16, 16), torch.zeros(1, 8, 8, 8)])
        >>> scores.shape, head.branch.embed(features, [{}], input_size=(64, 64)).shape
        (torch.Size([1, 21, 16, 16]), torch.Size([1, 4, 16, 16]))
    """


@MODELS.register_module()
class EmbeddingFCNHead(EmbeddingMixin, FCNHead):
    """FCN decode head with class scores and embeddings."""


@MODELS.register_module()
class EmbeddingUPerHead(EmbeddingMixin, UPerHead):
    """UPerNet decode head with class scores and embeddings."""
