"""Boundary head: embeddings from several stages of a backbone, fused to one boundary."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import xavier_init
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import SampleList
from torch import Tensor, nn

from ...structures import images_in_errors, input_size, single_or_double, unit_vectors


@MODELS.register_module()
class BoundaryHead(BaseDecodeHead):
    r"""Boundary detection by pixel embeddings (Kong & Fowlkes 2018, section 5.2).

    Each of S stages gets an embedding of its own, a 1 x 1 convolution to D values; the fusion layer, a 1 x 1 convolution on
    the S D values of the unit vectors, gives the logit of a boundary:

    .. math:: z_i = b + \sum_{s=1}^S w_s \cdot x_i^{(s)}, \qquad |x_i^{(s)}| = 1

    Maps are interpolated to where they are needed (the label's size in training, the image's in testing) *before* they are
    scaled to unit length and fused: a line of one pixel has no place on a map of a quarter of the image's size, and the
    nearest label of each of its cells would lose three pixels of four.

    Two phases (:meth:`set_phase`). In the phase ``'embedding'`` ``loss_embedding`` trains the embedding of each stage to separate
    two groups, boundary and not; its keys get the stage's number. In the phase ``'fusion'``, in which a head begins, the
    logistic loss trains everything. ``BoundaryPhaseHook(until=..)`` puts the first before the second; a comparison without it
    trains everything from the start. The second phase trains the fusion layer, so there is no way to leave out the second phase.

    ``forward`` returns (N, S D, h, w), the embeddings of all stages before they are scaled, at the size of the first.

    Args:
        in_channels: of each stage.
        in_index: which of the backbone's feature maps are the stages, the finest first.
        embedding_dims: D, at least 2; 3 is the paper's.
        loss_embedding: config of the loss on embeddings, e.g. ``dict(type='SphericalPairLoss')``, which takes ``gt_instance_map``
            and ``gt_sem_seg`` at their own size: sample pixels there. ``None`` if there is no phase ``'embedding'``.
        loss_decode: config of the logistic loss.

    Example:
        >>> head = BoundaryHead(in_channels=(4, 8), in_index=(0, 1))
        >>> output = head([torch.zeros(1, 4, 16, 16), torch.zeros(1, 8, 8, 8)])
        >>> output.shape, head.fuse(output).shape
        (torch.Size([1, 6, 16, 16]), torch.Size([1, 1, 16, 16]))
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_index: Sequence[int],
        embedding_dims: int = 3,
        loss_embedding: dict | None = None,
        loss_decode: dict | None = None,
    ) -> None:
        if embedding_dims < 2:
            raise ValueError(
                f'expected embedding_dims >= 2, since a single value has only two directions, got {embedding_dims}'
            )
        if len(in_channels) != len(in_index) or not in_channels:
            raise ValueError(f'expected in_channels for each stage of in_index, got {in_channels} for {in_index}')
        super().__init__(
            in_channels=list(in_channels),
            in_index=list(in_index),
            input_transform='multiple_select',
            channels=len(in_channels) * embedding_dims,
            num_classes=2,
            out_channels=1,
            threshold=0.5,
            dropout_ratio=0,
            loss_decode=loss_decode or {'type': 'BalancedLogisticLoss'},
        )
        self.embedding_dims = embedding_dims
        self.conv_embedding = nn.ModuleList([nn.Conv2d(c, embedding_dims, kernel_size=1) for c in in_channels])
        self.loss_embedding = None if loss_embedding is None else MODELS.build(loss_embedding)
        self.set_phase('fusion')

    def set_phase(self, phase: str) -> None:
        """Sets the phase of training: 'embedding' (losses on the embeddings) or 'fusion' (logistic loss on the fused
        boundary)."""
        if phase not in ('embedding', 'fusion'):
            raise ValueError(f"expected the phase 'embedding' or 'fusion', got {phase!r}")
        if phase == 'embedding' and self.loss_embedding is None:
            raise ValueError(
                "BoundaryHead has no loss_embedding to train with in the phase 'embedding': add loss_embedding=dict(type="
                "'SphericalPairLoss') to decode_head, or remove the BoundaryPhaseHook"
            )
        self.phase = phase

    def init_weights(self) -> None:
        for convolution in self.conv_embedding:
            xavier_init(convolution, distribution='uniform')
        super().init_weights()  # last, so that a pretrained head keeps its weights

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        maps = [convolve(x) for convolve, x in zip(self.conv_embedding, self._transform_inputs(inputs), strict=True)]
        return torch.cat([_interpolate(x, maps[0].shape[2:]) for x in maps], dim=1)

    def directions(self, output_NEhw: Tensor) -> Tensor:
        """The unit vectors of each stage, (N, S, D, h, w) float32 (float64 for float64 input), from the output of ``forward``."""
        stages_NSDhw = single_or_double(output_NEhw).unflatten(1, (len(self.conv_embedding), self.embedding_dims))
        return unit_vectors(stages_NSDhw, dim=2)

    def fuse(self, output_NEhw: Tensor) -> Tensor:
        """The logit of a boundary, (N, 1, h, w), from the output of ``forward``."""
        return self.cls_seg(self.directions(output_NEhw).flatten(1, 2))

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Computes the losses of the current phase, at the size of the labels."""
        names = ['gt_sem_seg'] if self.phase == 'fusion' else ['gt_sem_seg', 'gt_instance_map']
        missing = [name for name in names if name not in batch_data_samples[0]]
        if missing:
            raise ValueError(
                f'the data samples lack {", ".join(missing)}; make them with the transforms BoundaryConsensus, '
                'ClassesToInstances and PackInstanceMaps'
            )
        with images_in_errors(batch_data_samples):
            return self._losses(seg_logits, batch_data_samples)

    def _losses(self, output_NEhw: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        class_map_NHW = self._stack_batch_gt(data_samples).squeeze(1)
        output_NEHW = _interpolate(output_NEhw, class_map_NHW.shape[1:])
        if self.phase == 'fusion':
            loss = self.loss_decode(self.fuse(output_NEHW), class_map_NHW, ignore_index=self.ignore_index)
            return {self.loss_decode.loss_name: loss}
        instance_map_NHW = torch.cat([sample.gt_instance_map.data for sample in data_samples])
        assert self.loss_embedding is not None  # set_phase refuses this phase without it
        losses = {}
        for stage, x_NDHW in enumerate(self.directions(output_NEHW).unbind(1)):
            of_stage = self.loss_embedding(x_NDHW, instance_map_NHW, class_map_NHW)
            losses.update({f'{name}_{stage}': value for name, value in of_stage.items()})
        return losses

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """The logit at the size of the input, as every mmseg head returns its scores."""
        return self.fuse(_interpolate(seg_logits, input_size(batch_img_metas[0])))


def _interpolate(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=False)
