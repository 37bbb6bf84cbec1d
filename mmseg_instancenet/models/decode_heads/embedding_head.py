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
            seventh of their diameter, so that the paper's push margin of 2 x 3 is the distance of two neighbours. With
            ``unit_length`` the position turns the embedding instead (:func:`rotate_by_position`), after it was scaled; D is then
            even and at least 4, and about 0.4 of the diameter puts two neighbours at right angles. ``None`` leaves the position
            out.
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
        if pixels_per_unit is not None and not pixels_per_unit > 0:
            raise ValueError(f'expected pixels_per_unit > 0, or None for no position, got {pixels_per_unit}')
        fits = embedding_dims >= 4 and embedding_dims % 2 == 0 if unit_length else embedding_dims >= 2
        if pixels_per_unit is not None and not fits:
            raise ValueError(
                'expected embedding_dims >= 2 with pixels_per_unit, which adds x and y, or an even number >= 4 with '
                'unit_length=True, where they turn pairs of values, got '
                f'embedding_dims={embedding_dims} and unit_length={unit_length}'
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
        if self.unit_length:
            embeddings = unit_vectors(embeddings.float(), dim=1)  # a square under half precision overflows
        if self.pixels_per_unit is not None:
            position_2hw = self._positions(embeddings)
            embeddings = (rotate_by_position if self.unit_length else add_position)(embeddings.float(), position_2hw)
        return torch.cat([scores, embeddings], dim=1)

    def _positions(self, embeddings_NDhw: Tensor) -> Tensor:
        """x and y of each cell's centre in the network's input, in units of ``pixels_per_unit`` pixels, (2, h, w) float32."""
        map_size = tuple(embeddings_NDhw.shape[2:])
        input_size = self._position['input_size'] if self._position else map_size
        y_h, x_w = (
            (torch.arange(cells, device=embeddings_NDhw.device) + 0.5) * (pixels / cells / self.pixels_per_unit)
            for cells, pixels in zip(map_size, input_size, strict=True)
        )
        return torch.stack([x_w.expand(map_size), y_h[:, None].expand(map_size)])

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


def add_position(embeddings_NDhw: Tensor, position_2hw: Tensor) -> Tensor:
    """Adds x and y to the first two embedding values (Novotny et al., ECCV 2018, equation 4).

    Args:
        embeddings_NDhw: (N, D, h, w) floating point, D >= 2.
        position_2hw: (2, h, w): x, then y.

    Example:
        >>> add_position(torch.zeros(1, 3, 1, 1), torch.tensor([[[5.0]], [[7.0]]])).flatten()
        tensor([5., 7., 0.])
    """
    rest_Rhw = embeddings_NDhw.new_zeros(embeddings_NDhw.shape[1] - 2, *embeddings_NDhw.shape[2:])
    return embeddings_NDhw + torch.cat([position_2hw, rest_Rhw])


def rotate_by_position(embeddings_NDhw: Tensor, position_2hw: Tensor) -> Tensor:
    r"""Turns embeddings on the sphere by their position: what :func:`add_position` is in the plane.

    Values f and F + f, with F = D / 2, are turned as one pair by the angle

    .. math:: x \cos(\pi f / F) + y \sin(\pi f / F), \quad f = 0, .., F - 1

    the position along one of F directions. The length stays, and the cosine of two embeddings depends on the difference of
    their positions alone. Two embeddings that are equal before, with pairs of equal lengths, have the cosine :math:`J_0(r)` at
    a distance r of up to about F (a Bessel function: 1 at 0, right angles at r = 2.4, from there on between -0.41 and 0.31).
    Beyond, it depends on the direction between them too, and higher values occur.

    Args:
        embeddings_NDhw: (N, D, h, w) floating point, D even; with D = 2 only x turns them.
        position_2hw: (2, h, w): x, then y, in radians.

    Raises:
        ValueError: if D is odd.

    Example:
        >>> turned = rotate_by_position(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([[[torch.pi / 2]], [[9.0]]]))
        >>> turned.flatten().round(decimals=4).abs()
        tensor([0., 1.])
    """
    count, rest = divmod(embeddings_NDhw.shape[1], 2)
    if rest:
        raise ValueError(f'expected an even number of embedding values, got embeddings {tuple(embeddings_NDhw.shape)}')
    direction_F = torch.arange(count, device=embeddings_NDhw.device) * (torch.pi / count)
    x_hw, y_hw = position_2hw
    angle_Fhw = direction_F.cos()[:, None, None] * x_hw + direction_F.sin()[:, None, None] * y_hw
    first_NFhw, second_NFhw = embeddings_NDhw.split(count, dim=1)
    cos_Fhw, sin_Fhw = angle_Fhw.cos(), angle_Fhw.sin()
    return torch.cat(
        [first_NFhw * cos_Fhw - second_NFhw * sin_Fhw, first_NFhw * sin_Fhw + second_NFhw * cos_Fhw], dim=1
    )


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
