"""An embedding branch for any mmseg decode head."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmdet.models.dense_heads import MaskFormerHead
from mmengine.model import xavier_init
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import SampleList
from torch import Tensor, nn

from ...structures import (
    image_coordinates,
    images_in_errors,
    map_size,
    resize_labels,
    single_or_double,
    unit_vectors,
)
from .dense_features import find_features, listen
from .position import add_position, rotate_by_position

_COORDINATE_RANGE = 10.0
"""Coordinates run from -10 to 10 over the image: objects a tenth of it apart then differ by the 2 units that a
threshold of 1.2 tells apart with weights of order one; at -1 to 1 the branch would have to learn weights above ten."""


class EmbeddingBranch:
    """Adds D embedding values for each pixel to a decode head (Gao 2020, "Network architecture"); the head itself is
    unchanged.

    The branch is one 1 x 1 convolution (or two, see ``hidden_channels``) on the feature map from which the head makes its class
    scores; dropout acts on the scores only. It gives the head two more modules, ``conv_embedding`` and ``loss_embedding``, so
    that a checkpoint of the head with a branch is that of the head with these weights more.

    Args:
        head: built decode head of mmseg, of any kind.
        dims: D, at least 1; 4 is the paper's for COCO.
        loss: config of the loss on embeddings, e.g. ``dict(type='DiscriminativeLoss')``. Computed at the size of the feature
            map, on ``gt_sem_seg`` and ``gt_instance_map`` of the data samples. ``None`` for testing only.
        features: name of the module of the head whose output is the feature map; ``None`` for the rule of
            :func:`~.dense_features.find_features`, which fits mmseg's heads.
        coordinates: give the branch the position of each pixel in the whole image besides the features, so that look-alike
            objects can differ. Right under resizing, crops, padding and flips, which it reads from the data samples'
            ``homography_matrix``.
        pixels_per_unit: add the position of each pixel in the network's input, or in the current window of it, to the
            first two embedding values (x, then y), in units of this many pixels, so that the branch learns how far it is to
            the middle of the object: semi-convolutional embeddings (Novotny et al., ECCV 2018, equation 4). Objects in
            different places then differ before anything is learned, whatever they look like. For compact objects; about a
            seventh of their diameter, so that the paper's push margin of 2 x 3 is the distance of two neighbours. With
            ``unit_length`` the position turns the embedding instead (:func:`~.position.rotate_by_position`), after it was
            scaled; D is then even and at least 4, and about 0.4 of the diameter puts two neighbours at right angles. ``None``
            leaves the position out.
        hidden_channels: width of a 1 x 1 convolution and ReLU before the last one of the branch; ``None`` for none, as in both
            papers. With ``coordinates`` on a sphere it is needed: a linear function of the position turns a row of objects
            into one arc, on which no two neighbours can lie at right angles.
        unit_length: scale every embedding to length 1, for losses and groupers that use directions only
            (``SphericalPairLoss``, kernel 'cosine'), so that all of them compare the same embeddings.

    Example:
        >>> from mmseg.models.decode_heads import FCNHead
        >>> head = FCNHead(in_channels=8, in_index=0, channels=4, num_classes=21, norm_cfg=dict(type='BN')).eval()
        >>> branch = EmbeddingBranch(head, dims=3)
        >>> with branch.listening() as features:
        ...     scores = head([torch.zeros(1, 8, 16, 16)])
        >>> branch.embed(features, [{}], input_size=(64, 64)).shape
        torch.Size([1, 3, 16, 16])
    """

    def __init__(
        self,
        head: BaseDecodeHead | MaskFormerHead,
        dims: int = 4,
        loss: dict | None = None,
        features: str | None = None,
        coordinates: bool = False,
        pixels_per_unit: float | None = None,
        hidden_channels: int | None = None,
        unit_length: bool = False,
    ) -> None:
        _check(dims, pixels_per_unit, hidden_channels, unit_length)
        if head.out_channels != head.num_classes:
            raise ValueError(
                f'expected one score a class, background included ({head.num_classes}), got out_channels={head.out_channels}; '
                'remove out_channels from the config'
            )
        self.head, self.dims = head, dims
        self.coordinates, self.pixels_per_unit, self.unit_length = coordinates, pixels_per_unit, unit_length
        self.source = find_features(head, features)
        if self.source.channels is None:
            raise ValueError(
                f'embedding.features: expected a module that ends in a layer with channels, got {features!r}, a '
                f'{type(self.source.module).__name__}; name the last layer inside it'
            )
        channels = self.source.channels + 2 * coordinates
        if hidden_channels is None:
            head.conv_embedding = nn.Conv2d(channels, dims, kernel_size=1)
        else:
            head.conv_embedding = nn.Sequential(
                nn.Conv2d(channels, hidden_channels, kernel_size=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(hidden_channels, dims, kernel_size=1),
            )
        head.loss_embedding = None if loss is None else MODELS.build(loss)

    @property
    def loss_embedding(self) -> nn.Module | None:
        """Computes the loss on embeddings."""
        return self.head.loss_embedding

    def init_weights(self) -> None:
        """Initialises the weights by Xavier's method, as in the paper."""
        for layer in self.head.conv_embedding.modules():
            if isinstance(layer, nn.Conv2d):
                xavier_init(layer, distribution='uniform')

    @contextmanager
    def listening(self) -> Iterator[list[Tensor]]:
        """Context manager that yields a list with the feature map of the last forward pass through the head."""
        with listen(self.source) as features:
            yield features

    def embed(
        self,
        features: Sequence[Tensor],
        metas: Sequence[dict],
        input_size: tuple[int, int],
        origin: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """Computes the embeddings (N, D, h, w) of a forward pass.

        Args:
            features: the list of :meth:`listening` after the pass.
            metas: meta information of each image of the batch.
            input_size: (height, width) of the network's input, or of the window of it that the pass saw.
            origin: (row, column) of that window.
        """
        feature_NChw = self._checked(features)
        if self.coordinates:
            coordinates_N2hw = image_coordinates(metas, input_size, map_size(feature_NChw), feature_NChw.device, origin)
            feature_NChw = torch.cat([feature_NChw, coordinates_N2hw.to(feature_NChw) * _COORDINATE_RANGE], dim=1)
        embeddings = self.head.conv_embedding(feature_NChw)
        if self.unit_length:
            embeddings = unit_vectors(single_or_double(embeddings), dim=1)  # a square under half precision overflows
        if self.pixels_per_unit is not None:
            position_2hw = _positions(embeddings, input_size, self.pixels_per_unit)
            place = rotate_by_position if self.unit_length else add_position
            embeddings = place(single_or_double(embeddings), position_2hw)
        return embeddings

    def check_samples(self, data_samples: SampleList) -> None:
        """Raises ValueError if the training has no loss on embeddings, or if the data samples lack a label map or have
        maps of another size."""
        self._loss_to_train()
        missing = [name for name in ('gt_sem_seg', 'gt_instance_map') if name not in data_samples[0]]
        if missing:
            raise ValueError(
                f'the data samples lack {", ".join(missing)}; make them with the transforms MasksToMaps and PackInstanceMaps'
            )
        for sample in data_samples:
            sizes = {name: tuple(sample.get(name).data.shape[-2:]) for name in ('gt_sem_seg', 'gt_instance_map')}
            if 'batch_input_shape' in sample.metainfo:
                sizes['the input'] = tuple(sample.metainfo['batch_input_shape'])
            if len(set(sizes.values())) > 1:
                raise ValueError(
                    f'expected label maps of the size of the input, got {sizes}: the data_preprocessor pads some of them alone. '
                    'Take InstanceMapDataPreprocessor'
                )

    def loss(self, features: Sequence[Tensor], data_samples: SampleList) -> dict[str, Tensor]:
        """The losses on the embeddings of a forward pass in training, at the size of the feature map.

        Raises:
            ValueError: if the loss refuses them; the message names the iteration and the images of the batch.
        """
        instance_map_NHW, class_map_NHW = (
            torch.cat([sample.get(name).data for sample in data_samples]) for name in ('gt_instance_map', 'gt_sem_seg')
        )
        metas = [sample.metainfo for sample in data_samples]
        embeddings_NDhw = self.embed(features, metas, map_size(class_map_NHW))
        size = map_size(embeddings_NDhw)
        with images_in_errors(data_samples):
            return self._loss_to_train()(
                embeddings_NDhw, resize_labels(instance_map_NHW, size), resize_labels(class_map_NHW, size)
            )

    def _loss_to_train(self) -> nn.Module:
        if self.loss_embedding is None:
            raise ValueError(
                f'the embedding of {type(self.head).__name__} has no loss to train with: add e.g. loss_embedding=dict(type='
                "'DiscriminativeLoss') to decode_head, or loss=dict(..) to embedding"
            )
        return self.loss_embedding

    def _checked(self, features: Sequence[Tensor]) -> Tensor:
        name = type(self.source.module).__name__
        if not features:
            raise RuntimeError(
                f'embedding: the forward pass of {type(self.head).__name__} did not use its {name}, whose output the '
                'embedding needs; name another module by embedding.features'
            )
        feature = features[0]
        if not isinstance(feature, Tensor) or feature.dim() != 4:
            shape = tuple(feature.shape) if isinstance(feature, Tensor) else type(feature).__name__
            raise ValueError(
                f'embedding.features: expected a module that gives maps (N, C, h, w), got {shape} from {name}; name another'
            )
        if feature.shape[1] != self.source.channels:
            raise ValueError(
                f'embedding.features: expected {self.source.channels} channels from {name}, got {feature.shape[1]}; name the '
                'last layer inside it'
            )
        return feature


def _positions(embeddings_NDhw: Tensor, input_size: tuple[int, int], pixels_per_unit: float) -> Tensor:
    """x and y of each cell's centre in the network's input, in units of ``pixels_per_unit`` pixels, (2, h, w) float32."""
    size = map_size(embeddings_NDhw)
    y_h, x_w = (
        (torch.arange(cells, device=embeddings_NDhw.device) + 0.5) * (pixels / cells / pixels_per_unit)
        for cells, pixels in zip(size, input_size, strict=True)
    )
    return torch.stack([x_w.expand(size), y_h[:, None].expand(size)])


def _check(dims: int, pixels_per_unit: float | None, hidden_channels: int | None, unit_length: bool) -> None:
    if dims < 1:
        raise ValueError(f'expected embedding_dims >= 1, got {dims}')
    if hidden_channels is not None and hidden_channels < 1:
        raise ValueError(f'expected hidden_channels >= 1, or None for no hidden layer, got {hidden_channels}')
    if pixels_per_unit is not None and not pixels_per_unit > 0:
        raise ValueError(f'expected pixels_per_unit > 0, or None for no position, got {pixels_per_unit}')
    fits = dims >= 4 and dims % 2 == 0 if unit_length else dims >= 2
    if pixels_per_unit is not None and not fits:
        raise ValueError(
            'expected embedding_dims >= 2 with pixels_per_unit, which adds x and y, or an even number >= 4 with '
            'unit_length=True, where they turn pairs of values, got '
            f'embedding_dims={dims} and unit_length={unit_length}'
        )
