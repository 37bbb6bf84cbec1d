"""The embedding branch, and mmseg's decode heads with it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmengine.model import xavier_init
from mmseg.models.decode_heads import DepthwiseSeparableASPPHead, FCNHead, UPerHead
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, SampleList
from torch import Tensor, nn

from ...structures import image_coordinates, input_size, resize_labels, unit_vectors

_COORDINATE_RANGE = 10.0
"""Coordinates run from -10 to 10 over the picture: objects a tenth of it apart then differ by the 2 units that a
threshold of 1.2 tells apart with weights of order one; at -1 to 1 the branch would have to learn weights above ten."""


class EmbeddingMixin:
    """Adds D embedding values to the C class scores of an mmseg decode head (Gao 2020, "Network architecture").

    Every mmseg head ends in ``cls_seg``, which this mixin widens: C scores by the head's own ``conv_seg`` and D values
    by ``conv_embedding``, both 1 x 1 convolutions on one feature map; dropout acts on the scores only. To give another
    head an embedding branch, name it after the mixin and register it::

        @MODELS.register_module()
        class EmbeddingPSPHead(EmbeddingMixin, PSPHead):
            pass

    ``forward`` returns (N, C + D, h, w). As a plain mmseg head (``predict``) it gives the class scores alone.

    Args:
        embedding_dims: D, at least 1; 4 is the paper's for COCO.
        loss_embedding: config of the loss on embeddings, e.g. ``dict(type='DiscriminativeLoss')``. Computed at the
            head's own size on ``gt_sem_seg`` and ``gt_instance_map`` of the data samples. ``None`` for testing only.
        coordinates: give the embedding branch the position of each pixel in the whole picture besides the features, so
            that look-alike objects can differ. Right under resizing, crops, padding and flips, which it reads from the
            data samples' ``homography_matrix``.
        pixels_per_unit: add the position of each pixel in the network's input, or in the window of it that is looked at, to the
            first two embedding values (x, then y), in units of this many pixels, so that the branch learns how far it is to
            the middle of the object: semi-convolutional embeddings (Novotny et al., ECCV 2018, equation 4). Objects in
            different places then differ before anything is learned, whatever they look like. For compact objects; about a
            seventh of their diameter, so that the paper's push margin of 2 x 3 is the distance of two neighbours. ``None``
            adds nothing.
        hidden_channels: width of a 1 x 1 convolution and ReLU before the last one of the embedding branch; ``None`` for
            none, as in both papers. With ``coordinates`` on a sphere it is needed: a linear function of the position
            turns a row of objects into one arc, on which no two neighbours can lie at right angles.
        unit_length: scale every embedding to length 1, for losses and groupers that see directions alone
            (``SphericalPairLoss``, kernel 'cosine'): what follows then agrees on what is near.
        **kwargs: of the head. ``num_classes`` counts the background.
    """

    def __init__(
        self,
        *args,
        embedding_dims: int = 4,
        loss_embedding: dict | None = None,
        coordinates: bool = False,
        pixels_per_unit: float | None = None,
        hidden_channels: int | None = None,
        unit_length: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        if embedding_dims < 1:
            raise ValueError(f'expected embedding_dims >= 1, got {embedding_dims}')
        if self.out_channels != self.num_classes:
            raise ValueError(
                f'expected one score a class, background included ({self.num_classes}), got out_channels='
                f'{self.out_channels}; leave out_channels away'
            )
        self.embedding_dims = embedding_dims
        self.coordinates, self.unit_length = coordinates, unit_length
        if hidden_channels is not None and hidden_channels < 1:
            raise ValueError(f'expected hidden_channels >= 1, or None for no hidden layer, got {hidden_channels}')
        if pixels_per_unit is not None:
            if not pixels_per_unit > 0:
                raise ValueError(f'expected pixels_per_unit > 0, or None to add no position, got {pixels_per_unit}')
            if embedding_dims < 2 or unit_length:
                raise ValueError(
                    'expected embedding_dims >= 2 and unit_length=False with pixels_per_unit, which adds a position (x, y) to '
                    f'the embedding, got embedding_dims={embedding_dims} and unit_length={unit_length}'
                )
        self.pixels_per_unit = pixels_per_unit
        channels = self.channels + 2 * coordinates
        if hidden_channels is None:
            self.conv_embedding = nn.Conv2d(channels, embedding_dims, kernel_size=1)
        else:
            self.conv_embedding = nn.Sequential(
                nn.Conv2d(channels, hidden_channels, kernel_size=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(hidden_channels, embedding_dims, kernel_size=1),
            )
        self.loss_embedding = None if loss_embedding is None else MODELS.build(loss_embedding)
        self._position: dict | None = None

    def init_weights(self) -> None:
        for layer in self.conv_embedding.modules():
            if isinstance(layer, nn.Conv2d):
                xavier_init(layer, distribution='uniform')  # the paper's
        super().init_weights()  # last, so that a pretrained head keeps its weights

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Class scores and embeddings from the last feature map: (N, channels, h, w) to (N, C + D, h, w)."""
        scores = super().cls_seg(feat)
        if self.coordinates:
            size = tuple(feat.shape[2:])
            position = self._position or {'metas': [{}] * len(feat), 'input_size': size}
            coordinates_N2hw = image_coordinates(map_size=size, device=feat.device, **position)
            feat = torch.cat([feat, coordinates_N2hw.to(feat) * _COORDINATE_RANGE], dim=1)
        embeddings = self.conv_embedding(feat)
        if self.pixels_per_unit is not None:
            embeddings = self._add_position(embeddings)
        if self.unit_length:
            embeddings = unit_vectors(embeddings.float(), dim=1)  # a square under half precision overflows
        return torch.cat([scores, embeddings], dim=1)

    def _add_position(self, embeddings_NDhw: Tensor) -> Tensor:
        """Adds each cell's position in the input to the first two embedding values, in float32: positions need its digits."""
        height, width = embeddings_NDhw.shape[2:]
        input_height, input_width = self._position['input_size'] if self._position else (height, width)
        cells = {'device': embeddings_NDhw.device, 'dtype': torch.float32}
        x_w = (torch.arange(width, **cells) + 0.5) * (input_width / width / self.pixels_per_unit)
        y_h = (torch.arange(height, **cells) + 0.5) * (input_height / height / self.pixels_per_unit)
        position_2hw = torch.stack([x_w.expand(height, width), y_h[:, None].expand(height, width)])
        rest_hw = embeddings_NDhw.new_zeros(self.embedding_dims - 2, height, width, dtype=torch.float32)
        return embeddings_NDhw.float() + torch.cat([position_2hw, rest_hw])

    @contextmanager
    def at(
        self, metas: Sequence[dict], input_size: tuple[int, int], origin: tuple[int, int] = (0, 0)
    ) -> Iterator[None]:
        """Within it, ``forward`` knows where its input lies in the whole picture; otherwise it takes it for the whole, and
        with ``pixels_per_unit`` counts the cells of its own map as pixels.

        Args:
            metas: meta information of each picture of the batch.
            input_size: (height, width) of the input, or of the window of it that ``forward`` sees.
            origin: (row, column) of that window.
        """
        self._position = {'metas': metas, 'input_size': input_size, 'origin': origin}
        try:
            yield
        finally:
            self._position = None

    def split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores (N, C, h, w) and embeddings (N, D, h, w) of what ``forward`` returned."""
        return output.split([self.num_classes, self.embedding_dims], dim=1)

    def loss(self, inputs: tuple[Tensor], batch_data_samples: SampleList, train_cfg: ConfigType) -> dict[str, Tensor]:
        missing = [name for name in ('gt_sem_seg', 'gt_instance_map') if name not in batch_data_samples[0]]
        if missing:
            raise ValueError(
                f'the data samples lack {", ".join(missing)}; make them with the transforms MasksToMaps and PackInstanceMaps'
            )
        metas = [sample.metainfo for sample in batch_data_samples]
        with self.at(metas, tuple(batch_data_samples[0].gt_sem_seg.data.shape[-2:])):
            return super().loss(inputs, batch_data_samples, train_cfg)

    def predict(self, inputs: tuple[Tensor], batch_img_metas: list[dict], test_cfg: ConfigType) -> Tensor:
        with self.at(batch_img_metas, input_size(batch_img_metas[0])):
            return super().predict(inputs, batch_img_metas, test_cfg)

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Class losses at the size of the labels, embedding loss at the head's own size."""
        if self.loss_embedding is None:
            raise ValueError(
                f'{type(self).__name__} has no loss_embedding to train with: add e.g. loss_embedding=dict(type='
                "'DiscriminativeLoss') to decode_head"
            )
        scores, embeddings_NDhw = self.split(seg_logits)
        losses = super().loss_by_feat(scores, batch_data_samples)
        instance_map_NHW = torch.cat([sample.gt_instance_map.data for sample in batch_data_samples])
        class_map_NHW = torch.cat([sample.gt_sem_seg.data for sample in batch_data_samples])
        size = embeddings_NDhw.shape[2:]
        losses.update(
            self.loss_embedding(
                embeddings_NDhw, resize_labels(instance_map_NHW, size), resize_labels(class_map_NHW, size)
            )
        )
        return losses

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """The class scores at the size of the input, as every mmseg head returns them."""
        return super().predict_by_feat(self.split(seg_logits)[0], batch_img_metas)


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
