"""mmseg's visualizer for class maps with a background."""

from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from mmseg.registry import VISUALIZERS
from mmseg.visualization import SegLocalVisualizer

from .drawing import distinct_color

_BACKGROUND_COLOR = (0, 0, 0)


@VISUALIZERS.register_module(name='SegLocalVisualizer', force=True)
class BackgroundVisualizer(SegLocalVisualizer):
    """Draws class maps with a background; replaces mmseg's ``SegLocalVisualizer``, under the same name, in configs with
    ``default_scope = 'mmseg'``.

    mmseg takes value 0 of a class map for the first class of the data set. Our class maps have 0 for the background, which no
    data set lists: mmseg would draw the background as the first class, and the last class not at all. Of a data sample with
    ``background=True``, as those of :class:`EmbeddingSegmentor` do, the background is drawn black and each class in its colour.
    Other samples are drawn as mmseg draws them.

    Args: those of ``SegLocalVisualizer``.
    """

    dataset_meta: dict

    def add_datasample(
        self, name: str, image: np.ndarray, data_sample: BaseDataElement | None = None, *args: Any, **kwargs: Any
    ) -> None:
        meta = self.dataset_meta
        if data_sample is not None and data_sample.get('background', False):
            classes, palette = meta['classes'], list(meta.get('palette') or [])
            palette += [distinct_color(index) for index in range(len(palette), len(classes))]
            named = {'classes': ('background', *classes), 'palette': [_BACKGROUND_COLOR, *palette]}
            self.dataset_meta = {**meta, **named}
        try:
            super().add_datasample(name, image, data_sample, *args, **kwargs)
        finally:
            self.dataset_meta = meta
