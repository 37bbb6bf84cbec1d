"""The segmentor for boundary detection."""

from typing import Any

from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor

from ...structures import MapPlacement, check_finite, images_in_errors, map_size, sample_bilinear
from ..decode_heads.boundary_head import BoundaryHead
from ..postprocess import suppress_non_maxima
from .default_samples import samples_of


@MODELS.register_module()
class BoundarySegmentor(EncoderDecoder):
    """Boundary detection with a :class:`BoundaryHead` on any mmseg backbone.

    Training is mmseg's. In testing the embeddings of each stage are interpolated to the image's original size, without the
    padding, scaled to unit length and fused; the probability is thinned to its crests (:func:`suppress_non_maxima`).

    Keys of ``test_cfg``:

    - ``non_maximum_suppression``: True (default), or False for the probability as it is.

    Args: those of mmseg's ``EncoderDecoder``.

    ``predict`` returns mmdet's ``DetDataSample`` with, at the original size, ``pred_boundary`` (1, H, W), the probability of a
    boundary in [0, 1], and ``pred_embeddings`` (S D, H, W), the unit vectors of the S stages, D as its ``embedding_dims``.
    Peak memory: about five times these.
    """

    test_cfg: dict

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.decode_head, BoundaryHead):
            raise TypeError(f'expected a BoundaryHead as decode_head, got {type(self.decode_head).__name__}')
        self.test_cfg = self.test_cfg or {}
        unknown = set(self.test_cfg) - {'non_maximum_suppression'}
        if unknown:
            raise ValueError(
                f'expected test_cfg with non_maximum_suppression at most, got {sorted(unknown)} as well; the network '
                'always gets whole images'
            )

    def _forward(self, inputs: Tensor, data_samples: list[DetDataSample] | None = None) -> Tensor:
        """The whole network, mode 'tensor' of ``forward``: the logit of a boundary, (N, 1, H, W) at the size of the input.
        mmseg's own stops before the fusion layer."""
        return self.encode_decode(inputs, [{'img_shape': map_size(inputs)} for _ in inputs])

    def predict(self, inputs: Tensor, data_samples: list[DetDataSample] | None = None) -> list[DetDataSample]:
        size = map_size(inputs)
        data_samples = samples_of(inputs, data_samples)
        for sample, output_Ehw in zip(data_samples, self.decode_head(self.extract_feat(inputs)), strict=True):
            output_EHW = _on_image(output_Ehw.float(), sample.metainfo, size)
            probability_HW = self.decode_head.fuse(output_EHW[None])[0, 0].sigmoid()
            with images_in_errors([sample]):
                check_finite(probability_HW, 'probabilities of a boundary')
            if self.test_cfg.get('non_maximum_suppression', True):
                probability_HW = suppress_non_maxima(probability_HW)
            sample.set_field(PixelData(data=probability_HW[None]), 'pred_boundary', dtype=PixelData)
            embeddings = PixelData(
                metainfo={'embedding_dims': self.decode_head.embedding_dims},
                data=self.decode_head.directions(output_EHW[None])[0].flatten(0, 1),
            )
            sample.set_field(embeddings, 'pred_embeddings', dtype=PixelData)
        return data_samples


def _on_image(map_Ehw: Tensor, meta: dict, input_size: tuple[int, int]) -> Tensor:
    """Resamples the map at the pixels of the original image, (E, H, W); the padding is never read."""
    placement = MapPlacement.from_meta(meta, input_size)
    row_H, column_W = (
        placement.keep_inside(axis, length, placement.image_to_map(axis, length, map_Ehw.device)[0])
        for axis, length in enumerate(map_Ehw.shape[1:])
    )
    return sample_bilinear(map_Ehw, row_H, column_W)
