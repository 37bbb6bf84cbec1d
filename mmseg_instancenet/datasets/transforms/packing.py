"""The last step of a pipeline."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform, to_tensor
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from mmseg.registry import TRANSFORMS

from ...structures import IGNORED_CLASS


@TRANSFORMS.register_module()
class PackInstanceMaps(BaseTransform):
    """Packs a picture and, where there are any, its two label maps into mmdet's ``DetDataSample``.

    ``gt_sem_seg.data`` and ``gt_instance_map.data`` are (1, H, W) int64, under the name that mmseg's heads and metrics
    read. What the annotators of a boundary data set drew, ``gt_boundaries.data`` (A, H, W) bool, goes along where it was loaded.

    Args:
        meta_keys: what else of the results goes along. ``homography_matrix`` is what ``coordinates=True`` reads.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'flip',
            'flip_direction',
            'homography_matrix',
        ),
    ) -> None:
        self.meta_keys = meta_keys

    def transform(self, results: dict) -> dict:
        image = results['img'] if results['img'].ndim == 3 else results['img'][:, :, None]
        sample = DetDataSample(metainfo={key: results[key] for key in self.meta_keys if key in results})
        for key, name in {'gt_seg_map': 'gt_sem_seg', 'gt_instance_map': 'gt_instance_map'}.items():
            if key in results:
                data = to_tensor(results[key][None].astype(np.int64))
                sample.set_field(PixelData(data=data), name, dtype=PixelData)
        if 'gt_seg_map' in results:
            sample.gt_sem_seg.set_metainfo({'ignore_index': IGNORED_CLASS})
        if 'gt_boundaries' in results:
            sample.set_field(PixelData(data=to_tensor(results['gt_boundaries'])), 'gt_boundaries', dtype=PixelData)
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {'inputs': inputs, 'data_samples': sample}
