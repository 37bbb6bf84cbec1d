"""Batches of pictures with their two label maps."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ImgDataPreprocessor
from mmseg.registry import MODELS

from ..structures import IGNORED_CLASS, IGNORED_INSTANCE

_PADDING = {'gt_sem_seg': IGNORED_CLASS, 'gt_instance_map': IGNORED_INSTANCE}


@MODELS.register_module()
class InstanceMapDataPreprocessor(ImgDataPreprocessor):
    """MMEngine's image preprocessor, which in training also pads the class map (255) and the instance map (-1).

    Pictures of unequal sizes are padded below and to the right, in training and in testing; each data sample gets
    ``batch_input_shape``. In testing the label maps keep the picture's original size, so they are left alone.

    Args:
        channels_last: order the batch in memory as the convolutions of CPUs and tensor cores like it.
        **kwargs: those of MMEngine's ``ImgDataPreprocessor`` (``mean``, ``std``, ``pad_size_divisor``, ``bgr_to_rgb``, ..).
    """

    def __init__(self, *args, channels_last: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, data: dict, training: bool = False) -> dict[str, Any]:
        data = super().forward(data, training)
        inputs, samples = data['inputs'].contiguous(memory_format=self.memory_format), data.get('data_samples')
        data['inputs'] = inputs
        height, width = inputs.shape[-2:]
        for sample in samples or []:
            sample.set_metainfo({'batch_input_shape': (height, width)})
            if not training:
                continue
            for name, value in _PADDING.items():
                if name not in sample:
                    continue  # the decode head says so, and what to do
                label_1HW = sample.get(name).data
                padding = (0, width - label_1HW.shape[-1], 0, height - label_1HW.shape[-2])
                # PixelData does not let its data change size.
                sample.get(name).pop('data')
                sample.get(name).data = F.pad(label_1HW, padding, value=value)
        return data
