"""The segmentor for test-time augmentation."""

from collections.abc import Sequence

from mmdet.structures import DetDataSample
from mmengine.model import BaseTTAModel
from mmseg.registry import MODELS


@MODELS.register_module()
class EmbeddingTTAModel(BaseTTAModel):
    """Test-time augmentation: averages the class scores of the views, finds groups in each view and unites them by
    votes.

    Wraps an :class:`EmbeddingSegmentor`; the config's ``tta_pipeline`` makes the views (flips, scales), see
    ``configs/_base_/datasets``.
    """

    def test_step(self, data: dict[str, Sequence]) -> list[DetDataSample]:
        batches = [
            self.module.data_preprocessor({key: value[index] for key, value in data.items()}, False)
            for index in range(len(data['inputs']))
        ]
        views = zip(*(self.module.views(batch['inputs'], batch['data_samples']) for batch in batches), strict=True)
        return [
            self.module.assemble(sample, of_image)
            for sample, of_image in zip(batches[0]['data_samples'], views, strict=True)
        ]

    def merge_preds(self, data_samples_list: Sequence) -> None:
        raise NotImplementedError('predictions of views are merged in test_step, before they are grouped')
