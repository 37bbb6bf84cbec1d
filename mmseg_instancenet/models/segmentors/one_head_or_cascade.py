"""mmseg's two segmentors, for one head and for a cascade, as one class."""

from collections.abc import Sequence
from typing import Any

from mmseg.models.segmentors import CascadeEncoderDecoder
from torch import Tensor, nn


class OneHeadOrCascade(CascadeEncoderDecoder):
    """mmseg's ``EncoderDecoder``, or its ``CascadeEncoderDecoder`` for a list in ``decode_head`` (OCRNet, PointRend).

    Args:
        num_stages: of the cascade; the length of the list unless given.
        *args: of ``EncoderDecoder``, as are ``**kwargs``.
    """

    def __init__(self, *args: Any, num_stages: int | None = None, **kwargs: Any) -> None:
        self.num_stages = num_stages
        super(CascadeEncoderDecoder, self).__init__(*args, **kwargs)

    @property
    def heads(self) -> list[nn.Module]:
        """The decode heads in the order in which they run."""
        return list(self.decode_head) if isinstance(self.decode_head, nn.ModuleList) else [self.decode_head]

    def _mmsegs(self, cascade: bool) -> Any:
        """Parent class with mmseg's methods for one head, or for a cascade."""
        return super() if cascade else super(CascadeEncoderDecoder, self)

    def _init_decode_head(self, decode_head: dict | Sequence[dict]) -> None:
        cascade = not isinstance(decode_head, dict)
        if cascade and self.num_stages is None:
            self.num_stages = len(decode_head)
        self._mmsegs(cascade)._init_decode_head(decode_head)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        return self._mmsegs(len(self.heads) > 1).encode_decode(inputs, batch_img_metas)

    def _decode_head_forward_train(self, inputs: list[Tensor], data_samples: list) -> dict:
        return self._mmsegs(len(self.heads) > 1)._decode_head_forward_train(inputs, data_samples)
