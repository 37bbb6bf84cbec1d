"""Training labels from the boundaries that several annotators drew."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.fileio import get
from mmseg.registry import TRANSFORMS

from ...structures import IGNORED_CLASS, IGNORED_INSTANCE
from ..mat_file import load_mat
from .label_maps import name_maps


def read_bsds_boundaries(content: bytes, name: str) -> np.ndarray:
    """The boundary maps in a ``groundTruth/*.mat`` file of BSDS, one for each annotator: (A, H, W) bool.

    Args:
        content: of the file (MATLAB 5): a cell ``groundTruth`` of A structs with a field ``Boundaries`` (H, W).
        name: of the file, for messages.

    Raises:
        ValueError: if the file is damaged or another one.
    """
    loaded = load_mat(content, name)
    try:
        annotators = loaded['groundTruth'].ravel()
        boundaries = [annotator['Boundaries'][0, 0] for annotator in annotators]
    except Exception as error:
        raise ValueError(
            f'{name}: expected a MATLAB 5 file with a cell groundTruth{{..}}.Boundaries, as BSDS500 has them ({error!r})'
        ) from error
    if not boundaries:
        raise ValueError(f'{name}: groundTruth is empty; expected at least one annotator')
    shapes = {boundary.shape for boundary in boundaries}
    if any(len(shape) != 2 for shape in shapes) or any(boundary.dtype.kind not in 'biu' for boundary in boundaries):
        kinds = sorted({f'{boundary.shape} {boundary.dtype}' for boundary in boundaries})
        raise ValueError(f'{name}: expected boundary maps (H, W) of whole numbers, got {", ".join(kinds)}')
    if len(shapes) > 1:
        raise ValueError(f'{name}: expected boundary maps of one shape (H, W), got {sorted(shapes)}')
    return np.stack(boundaries) != 0


def boundary_consensus(boundaries_AHW: np.ndarray, consensus: float = 0.5) -> np.ndarray:
    """Merges the maps of A annotators into one label: 1 where more than ``consensus`` of them drew a boundary, 0 where
    none did, else 255.

    The rule of Liu et al., "Richer Convolutional Features for Edge Detection" (CVPR 2017, equation 1; there eta = 0.5),
    which most of the later boundary detectors share: a pixel that few annotators marked is neither a boundary that all see
    nor background. It also spares a fault of the data: hand-drawn lines are one pixel wide and lie a pixel or two
    apart, so that around most boundaries some pixels have few marks although everybody drew the boundary.

    Args:
        boundaries_AHW: (A, H, W) bool.
        consensus: share of the annotators, 0 <= consensus < 1; 0 ignores nothing.

    Returns:
        (H, W) uint8, which is the type that OpenCV resizes.

    Example:
        >>> boundary_consensus(np.array([[[1, 1, 0]], [[1, 0, 0]], [[1, 0, 0]]], bool)).tolist()
        [[1, 255, 0]]
    """
    count_HW = boundaries_AHW.sum(0)
    label_HW = np.where(count_HW == 0, 0, IGNORED_CLASS)
    label_HW[count_HW > consensus * len(boundaries_AHW)] = 1
    return label_HW.astype(np.uint8)


@TRANSFORMS.register_module()
class LoadBSDSBoundaries(BaseTransform):
    """Loads the boundaries of all annotators; see :func:`read_bsds_boundaries`.

    The maps keep the image's original size, wherever in a pipeline they are loaded: in testing they go to
    ``BoundaryMetric``; in training :class:`BoundaryConsensus` comes next and makes a label that follows the image.

    Required keys: seg_map_path, ori_shape. Added key: gt_boundaries (A, H, W) bool.

    Args:
        backend_args: where the file lies, as in mmcv's ``LoadImageFromFile``.
    """

    def __init__(self, backend_args: dict | None = None) -> None:
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        if 'ori_shape' not in results:
            raise KeyError("LoadBSDSBoundaries needs 'ori_shape': put dict(type='LoadImageFromFile') before it")
        path = results['seg_map_path']
        boundaries_AHW = read_bsds_boundaries(get(path, backend_args=self.backend_args), path)
        if boundaries_AHW.shape[1:] != tuple(results['ori_shape'][:2]):
            raise ValueError(
                f'{path} is {boundaries_AHW.shape[1:]} pixels (H, W), its image {results["img_path"]} is '
                f'{tuple(results["ori_shape"][:2])}'
            )
        results['gt_boundaries'] = boundaries_AHW
        return results


@TRANSFORMS.register_module()
class BoundaryConsensus(BaseTransform):
    """Replaces the annotators' maps by one label; see :func:`boundary_consensus`.

    It comes directly after :class:`LoadBSDSBoundaries`, so that mmseg's geometric transforms (``RandomFlip``, ``RandomResize``,
    ``RandomRotate`` with ``seg_pad_val=255``, ``RandomCrop``, ..) carry the label along.

    Required key: gt_boundaries, which is removed. Added keys: gt_seg_map (H, W) uint8, listed in seg_fields.

    Args:
        consensus: share of the annotators.
    """

    def __init__(self, consensus: float = 0.5) -> None:
        if not 0 <= consensus < 1:
            raise ValueError(f'expected a consensus from 0 to below 1 (a share of the annotators), got {consensus}')
        self.consensus = consensus

    def transform(self, results: dict) -> dict:
        if 'gt_boundaries' not in results:
            raise KeyError("BoundaryConsensus needs 'gt_boundaries': put dict(type='LoadBSDSBoundaries') before it")
        size, now = results['gt_boundaries'].shape[1:], tuple(results['img_shape'][:2])
        if size != now:
            raise ValueError(
                f'the boundaries have the size {size} of the original image, but the image is {now} by now: put '
                'BoundaryConsensus before resizes and crops'
            )
        results['gt_seg_map'] = boundary_consensus(results.pop('gt_boundaries'), self.consensus)
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results


@TRANSFORMS.register_module()
class ClassesToInstances(BaseTransform):
    """Makes each class of the class map one instance, for embedding losses whose groups are classes.

    The instance's id is its class, so class 0 is the background of the instance map: a loss that shall separate it too needs
    ``background_is_instance=True``. Ignored pixels stay ignored.

    Required key: gt_seg_map. Added key: gt_instance_map (H, W) float32, named in seg_fields.
    """

    def transform(self, results: dict) -> dict:
        if 'gt_seg_map' not in results:
            raise KeyError("ClassesToInstances needs 'gt_seg_map': load annotations before it")
        class_map = results['gt_seg_map'].astype(np.int64)
        instance_map = np.where(class_map == IGNORED_CLASS, IGNORED_INSTANCE, class_map)
        name_maps(results, zero_is_background=True, gt_instance_map=instance_map)
        return results
