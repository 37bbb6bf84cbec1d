"""The last step of a pipeline: packs an image and its label maps."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform, to_tensor
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from mmseg.registry import TRANSFORMS

from ...structures import IGNORED_CLASS
from .label_maps import check_maps, ignore_where_class_is

_MAPS = {
    'gt_seg_map': 'gt_sem_seg',
    'gt_instance_map': 'gt_instance_map',
    'gt_edge_map': 'gt_edge_map',
    'gt_depth_map': 'gt_depth_map',
}


@TRANSFORMS.register_module()
class PackInstanceMaps(BaseTransform):
    """Packs an image and its label maps, if any, into mmdet's ``DetDataSample``.

    ``gt_sem_seg.data`` and ``gt_instance_map.data`` are (1, H, W) int64, under the name that mmseg's heads and metrics
    read. Where the class map is 255, the instance map is -1. Other maps are packed too: mmseg's ``gt_edge_map.data``
    (1, H, W) int64 and ``gt_depth_map.data`` (1, H, W), and the annotators' maps of a boundary data set,
    ``gt_boundaries.data`` (A, H, W) bool.

    Args:
        meta_keys: other entries of the results to pack. ``coordinates=True`` reads ``homography_matrix``; mmdet's
            transforms and this package's record it. mmseg's do not, and changes by them are not noticed.

    Raises:
        ValueError: where a transform moved one of the two maps only, interpolated labels, or mixed images whose objects have
            the same ids; the message names a replacement.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            'img_id',
            'img_path',
            'ann_file',
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
        if 'img_shape' in sample:
            # mmseg's RandomRotFlip turns the image, its RandomRotate may enlarge it, and both leave the entry as it was.
            sample.set_metainfo({'img_shape': image.shape[:2]})
        maps = {key: results[key] for key in _MAPS if key in results}
        if 'gt_seg_map' in maps and 'gt_instance_map' in maps:
            check_maps(results)
            maps['gt_instance_map'] = ignore_where_class_is(maps['gt_seg_map'], maps['gt_instance_map'])
        for key, label_HW in maps.items():
            data = to_tensor(label_HW[None] if key == 'gt_depth_map' else label_HW[None].astype(np.int64))
            sample.set_field(PixelData(data=data), _MAPS[key], dtype=PixelData)
        if 'gt_seg_map' in results:
            sample.gt_sem_seg.set_metainfo({'ignore_index': IGNORED_CLASS})
        if 'gt_boundaries' in results:
            sample.set_field(PixelData(data=to_tensor(results['gt_boundaries'])), 'gt_boundaries', dtype=PixelData)
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {'inputs': inputs, 'data_samples': sample}
