"""Tables of objects and of images, row by row, for csv files."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from skimage.measure import perimeter_crofton

from .instance_result import InstanceResult


def object_columns(channels: int, pixel_size: float | None = None) -> list[str]:
    """The columns of a table of objects; see :func:`object_rows`.

    Args:
        channels: the largest number of channels of an image of the table.
        pixel_size: micrometres; ``None`` leaves out the columns in physical units.

    Example:
        >>> object_columns(channels=1)[-4:]
        ['centroid_x', 'centroid_y', 'perimeter', 'mean_intensity_1']
    """
    columns = ['image', 'id', 'class', 'score', 'area', 'x1', 'y1', 'x2', 'y2', 'centroid_x', 'centroid_y', 'perimeter']
    if pixel_size is not None:
        columns += ['area_um2', 'centroid_x_um', 'centroid_y_um', 'perimeter_um']
    return columns + [f'mean_intensity_{channel}' for channel in range(1, channels + 1)]


def object_rows(
    result: InstanceResult, image: str, pixels_HWC: np.ndarray | None = None, pixel_size: float | None = None
) -> list[dict]:
    r"""One row for each instance of an image.

    ========================  ============================================================================================
    column                    content
    ========================  ============================================================================================
    image                     as given
    id                        the instance's value in the label image, from 1
    class, score              name of the class; 0 to 1
    area                      pixels of the mask
    x1, y1, x2, y2            bounding box in pixels, right and lower edge exclusive
    centroid_x, centroid_y    mean position of the pixels of the mask; the middle of the upper left pixel is (0, 0)
    perimeter                 pixels; skimage's ``perimeter_crofton`` with 4 directions
    .._um2, .._um             area times ``pixel_size`` squared, the others times ``pixel_size``
    mean_intensity_1, ..      mean of each channel of the image over the mask
    ========================  ============================================================================================

    ``perimeter_crofton`` counts how often lines in four directions enter the mask (Cauchy-Crofton formula). For a disc of radius
    r it is :math:`2 \pi r` within 9 % at r = 5 and 2 % from r = 12; the length along the edges of the pixels would be
    :math:`8 r`.

    Time and memory: of the boxes of the objects.

    Args:
        result: of one image.
        image: its name in the table.
        pixels_HWC: of the image; without them there are no intensities.
        pixel_size: edge of a pixel in micrometres; without it there are no physical units.

    Raises:
        ValueError: if the pixels are of another size than the result, or the pixel size is no positive number.

    Example:
        >>> from pycocotools import mask as coco_mask
        >>> from mmseg_instancenet.structures import RunLengthMasks
        >>> masks = RunLengthMasks([coco_mask.encode(np.asfortranarray([[0, 1, 1]], np.uint8))], (1, 3))
        >>> labels, boxes = np.array([[0, 1, 1]], np.int32), np.array([[1, 0, 3, 1]], np.float32)
        >>> result = InstanceResult(labels, np.array([0]), np.array([0.9], np.float32), boxes, masks, ('nucleus',))
        >>> [row] = object_rows(result, 'a.png', np.array([[[0], [10], [20]]]), pixel_size=0.5)
        >>> row['centroid_x'], row['area'], row['area_um2'], row['mean_intensity_1']
        (1.5, 2, 0.5, 15.0)
    """
    check_pixel_size(pixel_size)
    if pixels_HWC is not None:
        check_pixels(result, pixels_HWC, image)
    columns = object_columns(0 if pixels_HWC is None else pixels_HWC.shape[2], pixel_size)
    rows = []
    for number, (crop, name, score, area, box, centroid) in enumerate(
        zip(
            result.crops,
            result.classes,
            result.decimal_scores,
            result.areas.tolist(),
            result.boxes.tolist(),
            result.centroids.tolist(),
            strict=True,
        ),
        start=1,
    ):
        perimeter = float(perimeter_crofton(crop.mask_hw, directions=4))
        values = [image, number, name, score, area, *box, *centroid, perimeter]
        if pixel_size is not None:
            values += [area * pixel_size**2, *(length * pixel_size for length in (*centroid, perimeter))]
        if pixels_HWC is not None:
            values += pixels_HWC[crop.box][crop.mask_hw > 0].mean(axis=0, dtype=np.float64).tolist()
        rows.append(dict(zip(columns, values, strict=True)))
    return rows


def image_columns(class_names: Sequence[str]) -> list[str]:
    """The columns of a table of images; see :func:`image_row`."""
    return ['image', 'width', 'height', 'count', *(f'count_{name}' for name in class_names)]


def image_row(result: InstanceResult, image: str) -> dict:
    """The row of an image: its name, size in pixels, number of instances, and ``count_CLASS`` for every class.

    Example:
        >>> from mmseg_instancenet.structures import RunLengthMasks
        >>> labels, nothing = np.zeros((2, 3), np.int32), np.zeros(0)
        >>> result = InstanceResult(labels, nothing, nothing, np.zeros((0, 4)), RunLengthMasks([], (2, 3)), ('cat', 'dog'))
        >>> image_row(result, 'a.png')
        {'image': 'a.png', 'width': 3, 'height': 2, 'count': 0, 'count_cat': 0, 'count_dog': 0}
    """
    height, width = result.labels.shape
    counts = Counter(result.classes)
    values = [image, width, height, len(result), *(counts[name] for name in result.class_names)]
    return dict(zip(image_columns(result.class_names), values, strict=True))


def check_pixels(result: InstanceResult, pixels_HWC: np.ndarray, image: str) -> None:
    """Raises ValueError unless pixels are (H, W, C) of the size of a result; ``image`` is named."""
    size = result.labels.shape
    if pixels_HWC.ndim != 3 or pixels_HWC.shape[:2] != size:
        raise ValueError(
            f'{image}: expected pixels ({size[0]}, {size[1]}, C), the size of the result, got {pixels_HWC.shape}: give the '
            'pixels of the image that was segmented'
        )


def check_pixel_size(pixel_size: float | None) -> None:
    """Raises ValueError unless a pixel size is ``None`` or a positive number."""
    if pixel_size is not None and not 0 < pixel_size < float('inf'):
        raise ValueError(f'expected a positive pixel size in micrometres, got {pixel_size}')
