"""Instances as regions of interest (ROIs) of ImageJ and Fiji, in a zip that the ROI Manager opens."""

from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

from .instance_result import InstanceResult

# The steps of a path in java.awt.geom.PathIterator, as ImageJ's ShapeRoi stores them.
_MOVE_TO, _LINE_TO, _CLOSE = 0.0, 1.0, 4.0


def write_rois(result: InstanceResult, path: str | Path) -> None:
    """Writes one ROI for each instance, without loss.

    A mask of one piece without holes is a traced polygon along the edges of its pixels, as ImageJ's wand makes it. Any other mask
    is a composite ROI (ImageJ's ``ShapeRoi``) of all its outer rings and holes, which ImageJ fills by the even-odd rule. Either
    covers the pixels of the mask.

    A ROI has the name 'LABEL-CLASS' (LABEL as in the label image, with five digits or more), the properties ``class`` and
    ``score``, and the group (colour) of its class, 1 for the first; ImageJ has 255 groups, and later classes get none.

    Args:
        result: of one image.
        path: of the zip; a file that is there is replaced.

    Raises:
        ImportError: if roifile is not installed.

    Example:
        >>> import tempfile
        >>> from pycocotools import mask as coco_mask
        >>> from mmseg_instancenet.structures import RunLengthMasks
        >>> masks = RunLengthMasks([coco_mask.encode(np.asfortranarray([[0, 1, 1]], np.uint8))], (1, 3))
        >>> labels, boxes = np.array([[0, 1, 1]], np.int32), np.array([[1, 0, 3, 1]], np.float32)
        >>> result = InstanceResult(labels, np.array([0]), np.array([0.9], np.float32), boxes, masks, ('nucleus',))
        >>> path = f'{tempfile.mkdtemp()}/image.zip'
        >>> try:
        ...     write_rois(result, path)
        ... except ImportError as error:
        ...     print(error)
    """
    roifile = load_roifile()
    with ZipFile(path, 'w') as archive:
        for label, (pieces, name, index, score) in enumerate(
            zip(result.outlines, result.classes, result.class_indices.tolist(), result.decimal_scores, strict=True),
            start=1,
        ):
            rings = [ring for piece in pieces for ring in piece]
            roi = _polygon(roifile, rings[0]) if len(rings) == 1 else _composite(roifile, rings)
            roi.name = f'{label:05d}-{name}'.replace('/', '_').replace('\\', '_')  # a file name in the zip
            roi.props = f'class: {name}\nscore: {score}\n'
            roi.group = index + 1 if index < 255 else 0
            # Without the time, which roifile's own writer adds: the same result is the same file.
            entry = ZipInfo(f'{roi.name}.roi')
            entry.compress_type = ZIP_DEFLATED
            archive.writestr(entry, roi.tobytes())


def load_roifile() -> ModuleType:
    """The library that writes ROIs; ImportError with the command that installs it where it is missing."""
    try:
        import roifile
    except ImportError as error:
        raise ImportError(
            f"ImageJ ROIs need roifile, which does not load ({error}): pip install 'roifile>=2024.5.24'"
        ) from error
    return roifile


def _polygon(roifile: ModuleType, ring_V2: np.ndarray) -> Any:
    roi = roifile.ImagejRoi.frompoints(ring_V2, name='')  # stores large coordinates as floating point
    roi.roitype = roifile.ROI_TYPE.TRACED
    roi.left, roi.top = ring_V2.min(axis=0).tolist()
    roi.right, roi.bottom = ring_V2.max(axis=0).tolist()
    return roi


def _composite(roifile: ModuleType, rings: list[np.ndarray]) -> Any:
    steps = []
    for ring_V2 in rings:
        steps_V3 = np.insert(ring_V2.astype(np.float32), 0, _LINE_TO, axis=1)
        steps_V3[0, 0] = _MOVE_TO
        steps += [steps_V3.reshape(-1), np.array([_CLOSE], np.float32)]
    roi = roifile.ImagejRoi()
    roi.roitype = roifile.ROI_TYPE.RECT  # of every composite
    roi.multi_coordinates = np.concatenate(steps)
    roi.shape_roi_size = len(roi.multi_coordinates)
    corner_V2 = np.concatenate(rings)
    roi.left, roi.top = corner_V2.min(axis=0).tolist()
    roi.right, roi.bottom = corner_V2.max(axis=0).tolist()
    return roi
