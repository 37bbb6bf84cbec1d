"""Preprocessor for batches of images and their label maps."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ImgDataPreprocessor
from mmseg.registry import MODELS

from ..structures import IGNORED_CLASS, IGNORED_INSTANCE

Size = tuple[int, int]
"""(height, width) in pixels."""


def padded_size(largest: Size, size: Size | None = None, size_divisor: int | None = None) -> Size:
    """(height, width) of a batch: at least the size of its largest image and ``size``, both multiples of
    ``size_divisor``.

    Example:
        >>> padded_size((30, 50), size_divisor=32)
        (32, 64)
        >>> padded_size((30, 50), size=(40, 40))
        (40, 50)
    """
    sides = [max(sides) for sides in zip(largest, size or largest, strict=True)]
    height, width = (-(-side // (size_divisor or 1)) * (size_divisor or 1) for side in sides)
    return height, width


@MODELS.register_module()
class InstanceMapDataPreprocessor(ImgDataPreprocessor):
    """MMEngine's image preprocessor, which in training also pads the label maps with the *ignore* value of each.

    It takes the words of MMEngine's ``ImgDataPreprocessor`` and those of mmseg's ``SegDataPreProcessor``, so that a config of
    mmseg becomes ours by its ``type`` alone.

    Images are padded below and to the right, to the size of the largest one or more. The class map is padded with
    ``seg_pad_val``, the instance map with -1, mmseg's edge and depth maps with ``seg_pad_val``, as mmseg does. In testing the
    maps keep the image's original size, so they are left alone. Each data sample gets ``batch_input_shape`` (height, width),
    and the same as ``pad_shape`` with ``padding_size`` (left, right, top, bottom), which mmseg's heads and segmentors read.

    Args:
        mean, std, bgr_to_rgb, rgb_to_bgr, non_blocking: MMEngine's.
        pad_size_divisor: MMEngine's: of both sides of a batch, in training and in testing. Default 1.
        pad_value: MMEngine's: of padded pixels, after the normalisation; mmseg calls it ``pad_val``. Default 0.
        size: mmseg's: (height, width) that a batch has at least, in training.
        size_divisor: mmseg's: of both sides of a batch, in training.
        test_cfg: mmseg's: dict of ``size`` or ``size_divisor`` for testing.
        seg_pad_val: mmseg's: of padded pixels of the class map, edges and depths.
        batch_augments: a function of (inputs, data samples) that returns both, called in training after the padding.
        channels_last: order the batch in memory as the convolutions of CPUs and tensor cores like it.

    Raises:
        ValueError: where two words contradict each other; in training, where a label map and its image differ in size.

    Example:
        >>> from mmengine.structures import PixelData
        >>> from mmseg.structures import SegDataSample
        >>> sample = SegDataSample(gt_instance_map=PixelData(data=torch.ones(1, 1, 2, dtype=torch.long)))
        >>> batch = {'inputs': [torch.zeros(3, 1, 2)], 'data_samples': [sample]}
        >>> InstanceMapDataPreprocessor(size_divisor=4)(batch, training=True)['data_samples'][0].gt_instance_map.data[0, 0]
        tensor([ 1,  1, -1, -1])
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pad_size_divisor: int | None = None,
        pad_value: float | None = None,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        non_blocking: bool | None = False,
        *,
        size: Size | None = None,
        size_divisor: int | None = None,
        pad_val: float | None = None,
        seg_pad_val: float = IGNORED_CLASS,
        test_cfg: dict | None = None,
        batch_augments: Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]] | None = None,
        channels_last: bool = False,
    ) -> None:
        self._refuse_both('pad_value', pad_value, 'pad_val', pad_val)
        for name, value in {'size': size, 'size_divisor': size_divisor, 'test_cfg': test_cfg}.items():
            self._refuse_both('pad_size_divisor', pad_size_divisor, name, value)
        self._refuse_both('size', size, 'size_divisor', size_divisor)
        test_cfg = dict(test_cfg or {})
        if set(test_cfg) - {'size', 'size_divisor'}:
            raise ValueError(f"expected a test_cfg with 'size' or 'size_divisor', got {test_cfg}")
        self._refuse_both(
            "test_cfg['size']", test_cfg.get('size'), "test_cfg['size_divisor']", test_cfg.get('size_divisor')
        )
        if batch_augments is not None and not callable(batch_augments):
            raise ValueError(
                'expected batch_augments=None or a function of (inputs, data_samples), got '
                f'{batch_augments!r}: as in mmseg it is called, and not built from a config; '
                'change images in the pipeline, or give a function'
            )
        fill = next((given for given in (pad_value, pad_val) if given is not None), 0)
        super().__init__(mean, std, pad_size_divisor or 1, fill, bgr_to_rgb, rgb_to_bgr, non_blocking)
        self.training_padding = {'size': size, 'size_divisor': size_divisor}
        self.test_padding = test_cfg
        self.batch_augments = batch_augments
        self.map_padding = {
            'gt_sem_seg': seg_pad_val,
            'gt_instance_map': IGNORED_INSTANCE,
            'gt_edge_map': seg_pad_val,
            'gt_depth_map': seg_pad_val,
        }
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    @staticmethod
    def _refuse_both(name: str, value: Any, other_name: str, other_value: Any) -> None:
        if value is not None and other_value is not None:
            raise ValueError(
                f'expected {name} or {other_name}, got both ({name}={value}, {other_name}={other_value}); set the one that '
                'does not count to None. pad_size_divisor pads in training and testing, size and size_divisor in training, '
                'test_cfg in testing; pad_value and pad_val are two names of one thing'
            )

    def forward(self, data: dict, training: bool = False) -> dict[str, Any]:
        sizes = [tuple(image.shape[-2:]) for image in data['inputs']]
        data = super().forward(data, training)
        inputs, samples = data['inputs'], data.get('data_samples')
        height, width = padded_size(inputs.shape[-2:], **(self.training_padding if training else self.test_padding))
        if (height, width) != tuple(inputs.shape[-2:]):
            inputs = F.pad(inputs, (0, width - inputs.shape[-1], 0, height - inputs.shape[-2]), value=self.pad_value)
        for sample, size in zip(samples or (), sizes, strict=False):
            padding = (0, width - size[1], 0, height - size[0])
            sample.set_metainfo(
                {'batch_input_shape': (height, width), 'pad_shape': (height, width), 'padding_size': padding}
            )
            if training:
                self._pad_maps(sample, size, padding)
        if training and self.batch_augments is not None:
            inputs, data['data_samples'] = self.batch_augments(inputs, samples)
        data['inputs'] = inputs.contiguous(memory_format=self.memory_format)
        return data

    def _pad_maps(self, sample: Any, size: Size, padding: tuple[int, int, int, int]) -> None:
        for name, value in self.map_padding.items():
            if name not in sample:
                continue  # missing maps are reported by the decode head
            label_1HW = sample.get(name).data
            if tuple(label_1HW.shape[-2:]) != size:
                raise ValueError(
                    f'expected {name} of the size of its image, {size} pixels (height, width), got '
                    f'{tuple(label_1HW.shape[-2:])}: a transform of the training pipeline resized, cropped, padded or turned '
                    "the image and not the map. mmdet's transforms come before MasksToMaps; after the loading of maps come "
                    "those that move all maps in results['seg_fields'], mmseg's and this package's ..Maps; in place of mmcv's "
                    'Pad set size or size_divisor of the data_preprocessor'
                )
            # The data of a PixelData cannot change size.
            sample.get(name).pop('data')
            sample.get(name).data = F.pad(label_1HW, padding, value=value)
