"""The checks of annotation files and their images, and how each finding is treated."""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Decision(Enum):
    """How a finding is treated."""

    MENDED = 'mended'
    WARNED = 'warned'
    REFUSED = 'refused'


class Check(NamedTuple):
    """A kind of finding: where it occurs, how it is described and treated.

    Attributes:
        name: of the check, as reports have it.
        where: the part of the file. Each reading looks at 'file', 'images', 'categories' and 'annotations', each data set at
            'data set' as well, ``tools/check_dataset.py`` alone at 'image files' and 'suspicious'; :class:`LabelImageDataset`
            at 'label images' in addition.
        found: the finding, for ``N times: ..``.
        decision: see :class:`Decision`.
        action: the normal form of a mended one, or the remedy.
    """

    name: str
    where: str
    found: str
    decision: Decision
    action: str

    @property
    def can_be_skipped(self) -> bool:
        """Whether ``strict=False`` leaves out annotations with this finding, or of label images the images; faults of the lists
        of images and categories always raise an error."""
        return self.decision is Decision.REFUSED and self.where in ('annotations', LABEL_IMAGES)


LABEL_IMAGES = 'label images'
"""The part of :class:`LabelImageDataset`."""

_MENDED, _WARNED, _REFUSED = Decision

CHECKS = {
    check.name: check
    for check in (
        Check('byte-order-mark', 'file', 'byte order mark, as editors of Windows write it', _MENDED, 'read as UTF-8'),
        Check('no-json', 'file', 'truncated file, Git LFS pointer, another format', _REFUSED, 'get the whole file'),
        Check('no-coco', 'file', 'no COCO json: no lists "images" and "categories"', _REFUSED, 'convert it to COCO'),
        Check('no-annotation', 'file', 'no annotation at all', _WARNED, 'nothing is learnt, every AP is -1'),
        Check('all-ignored', 'file', 'every object of the classes a crowd or ignored', _WARNED,
              'nothing is learnt, every AP is -1; set "iscrowd" to 0 where an annotation is one object'),
        Check('class-without-object', 'file', 'class whose every annotation is a crowd or ignored', _WARNED,
              'the class is not learnt'),
        Check('image-entry', 'images', 'entry without a text "file_name"', _REFUSED, 'give each image its file name'),
        Check('image-id', 'images', 'id absent, null, text or fraction', _MENDED,
              'numbered inside; "7" and 7.0 are 7'),
        Check('duplicate-image-id', 'images', 'id of two images', _REFUSED,
              'number the images of joined files anew, and the annotations with them'),
        Check('image-size-as-text', 'images', 'width or height as text or fraction', _MENDED, 'read as a whole number'),
        Check('image-size', 'images', 'width or height absent, zero, negative or above 65000', _REFUSED,
              'write the size of the image as stored in the file'),
        Check('category-id', 'categories', 'id absent, null, text or fraction', _MENDED,
              'numbered inside; "7" and 7.0 are 7'),
        Check('category-name', 'categories', 'name absent or no text', _REFUSED, 'give each category a name'),
        Check('duplicate-category', 'categories', 'id or name of two categories', _REFUSED, 'leave one of them'),
        Check('annotation-entry', 'annotations', 'entry that is no object {..}', _REFUSED, 'correct or remove it'),
        Check('annotation-id', 'annotations', 'id absent, null, text, zero, negative or used twice', _MENDED,
              'numbered inside'),
        Check('unknown-image', 'annotations', 'image_id of no image', _REFUSED, 'correct or remove it'),
        Check('unknown-category', 'annotations', 'category_id of no category', _REFUSED,
              'number annotations and categories alike (one of them may begin at 0, the other at 1)'),
        Check('reference-as-text', 'annotations', 'image_id or category_id as text or fraction', _MENDED,
              '"7" and 7.0 are 7'),
        Check('no-crowd-flag', 'annotations', '"iscrowd" absent, null or empty', _MENDED, '0: one object'),
        Check('crowd-flag-as-text', 'annotations', '"iscrowd" or "ignore" as text or true/false', _MENDED, 'read as 0 or 1'),
        Check('crowd-flag', 'annotations', '"iscrowd" or "ignore" neither 0 nor 1', _REFUSED,
              'set 0 for an object, 1 for a crowd'),
        Check('no-mask', 'annotations', 'no "segmentation", or an empty one', _REFUSED,
              'draw its mask, or remove it: pixel embeddings are trained on masks'),
        Check('segmentation-form', 'annotations', 'segmentation in no form of COCO', _REFUSED,
              'write polygons [[x1, y1, x2, y2, x3, y3, ..], ..] or {"size": [height, width], "counts": ..}'),
        Check('flat-polygon', 'annotations', 'one polygon in place of a list of polygons', _MENDED, 'a list of this one'),
        Check('polygon-of-pairs', 'annotations', 'polygon as pairs [x, y]', _MENDED, 'x1, y1, x2, y2, ..'),
        Check('coordinates-as-text', 'annotations', 'coordinates as text', _MENDED, 'read as numbers'),
        Check('empty-ring', 'annotations', 'polygon of fewer than three points beside others', _MENDED, 'left out'),
        Check('point-polygon', 'annotations', 'polygon of fewer than three points, such as the corners of a box', _REFUSED,
              'draw at least three points around the object'),
        Check('odd-polygon', 'annotations', 'odd count of coordinates', _REFUSED, 'write x and y of each point'),
        Check('coordinate', 'annotations', 'coordinate that is no finite number', _REFUSED, 'correct it'),
        Check('shares', 'annotations', 'coordinates between 0 and 1, as shares of the sides of the image', _REFUSED,
              'multiply them by width and height'),
        Check('outside', 'annotations', 'polygon more than 10 pixels outside the image', _REFUSED,
              'is the size of the image in the json that of the file on which it was drawn? Else cut the polygon'),
        Check('over-the-border', 'annotations', 'polygon a few pixels outside the image', _MENDED,
              'clipped, as run lengths'),
        Check('mask-size', 'annotations', 'run lengths of another size than the image', _REFUSED,
              'encode the mask at the size of the image'),
        Check('counts', 'annotations', 'run lengths that do not cover the image once', _REFUSED, 'encode the mask again'),
        Check('no-pixel', 'annotations', 'mask without a pixel', _MENDED, 'left out: no detection can match it'),
        Check('area', 'annotations', '"area" absent, zero or no number', _MENDED, 'that of the mask'),
        Check('box', 'annotations', '"bbox" absent, no four numbers or without a side', _MENDED, 'that of the mask'),
        Check('other-box', 'annotations', '"bbox" more than 2 pixels beside the mask', _MENDED, 'that of the mask'),
        Check('no-image', 'data set', 'no image in the list "images"', _REFUSED, 'is it the right file?'),
        Check('classes', 'data set', 'classes that are not those of the json in its order', _REFUSED,
              'set metainfo=dict(classes=(..)) of the data set to names of the json'),
        Check('missing-image', 'image files', 'file that does not exist', _REFUSED,
              'set data_root and data_prefix=dict(img=..), or correct "file_name"'),
        Check('unreadable-image', 'image files', 'file that cannot be read: empty, cut off or no image', _REFUSED,
              'copy it again, or leave the image out'),
        Check('other-size', 'image files', 'image of another size than in the json', _REFUSED,
              'resize both alike, or annotate the images as they are'),
        Check('orientation', 'image files', 'EXIF orientation in an image whose size fits', _WARNED,
              'do the masks lie on the objects? Most loading steps turn the image, some annotation tools do not'),
        Check('depth', 'image files', 'more than 8 bits, for which the loading step has no rule', _REFUSED,
              "max_value=.. of LoadImageFromFile scales them, color_type=3 keeps them for NormalizePercentiles after it"),
        Check('image-listed-twice', 'suspicious', 'file of two images of the list', _WARNED,
              'the objects of each are background in the other: leave one image with all of them'),
        Check('same-name', 'suspicious', 'file name of images in several folders', _WARNED,
              'different images? Then nothing is wrong'),
        Check('image-without-annotation', 'suspicious', 'image without an annotation of the classes', _WARNED,
              'all of it is background: is it annotated?'),
        Check('other-class', 'suspicious', 'class of the json that is not in the classes of the config', _WARNED,
              'its objects are background; add it to classes unless that is meant'),
        Check('same-mask', 'suspicious', 'object whose mask another one of the image has', _WARNED,
              'one hides the other: remove one'),
        Check('whole-image', 'suspicious', 'object on 95 % of its image or more', _WARNED,
              'is it the background? Then remove it'),
        Check('no-mask-file', LABEL_IMAGES, 'image without a mask file', _REFUSED,
              'draw its mask, one of zeros where it has no object; mask_suffix of the data set if the names differ'),
        Check('mask-without-image', LABEL_IMAGES, 'mask file of no image', _WARNED,
              'not used: an image and its mask have the same name, apart from mask_suffix'),
        Check('mask-outside-class', LABEL_IMAGES, 'mask file in no class folder', _REFUSED,
              'move it to masks/CLASS/, or set classes_from=None of the data set for a single class'),
        Check('several-masks', LABEL_IMAGES, 'two masks of one image and class', _REFUSED, 'leave one of them'),
        Check('images-of-one-name', LABEL_IMAGES, 'images of one name and different endings', _REFUSED,
              'leave one of them: both have the same mask'),
        Check('unreadable-mask', LABEL_IMAGES, 'mask file that is empty, cut off or no image', _REFUSED,
              'copy it again, or leave the image out'),
        Check('jpeg-mask', LABEL_IMAGES, 'mask in a lossy format, which changes labels', _REFUSED,
              'write it again as png or tif'),
        Check('mask-channels', LABEL_IMAGES, 'mask of several channels or pages', _REFUSED,
              'write one channel with the number of the object at each pixel'),
        Check('float-mask', LABEL_IMAGES, 'mask in floating point', _REFUSED,
              'write whole numbers: labels.astype("uint16")'),
        Check('negative-label', LABEL_IMAGES, 'negative label', _REFUSED,
              'ignore_label of the data set, if it marks unlabelled regions'),
        Check('mask-of-other-size', LABEL_IMAGES, 'mask of another size than its image', _REFUSED,
              'resize the mask to the image, without interpolation'),
        Check('unknown-size', LABEL_IMAGES, 'image without objects whose size cannot be read', _REFUSED,
              'is it an image? Then write it as png or tif'),
        Check('binary-mask', LABEL_IMAGES, 'label image with 255 alone, in several pieces', _REFUSED,
              'it is one mask of all objects: number the objects, skimage.measure.label does it where none touch'),
        Check('one-label', LABEL_IMAGES, 'label image with a single label in three pieces or more', _WARNED,
              'is it one mask of all objects? Then number the objects'),
        Check('values-of-one-object', LABEL_IMAGES, 'mask of one object with several values', _REFUSED,
              'write 0 and 255, or one label image for all objects of the image'),
        Check('empty-object-file', LABEL_IMAGES, 'mask of one object without a pixel', _WARNED, 'left out'),
        Check('label-without-class', LABEL_IMAGES, 'label that the csv of the classes lacks', _REFUSED,
              'add a line with the name of the image, the label and its class'),
        Check('row-without-label', LABEL_IMAGES, 'line of the csv whose label the image lacks', _WARNED,
              'not used: is the label right?'),
    )
}  # fmt: skip
"""All checks, by name."""


def decision_table(checks: Iterable[Check] = tuple(CHECKS.values())) -> str:
    """The checks as a table in Markdown."""
    rows = [f'| {check.where} | {check.found} | {check.decision.value} | {check.action} |' for check in checks]
    return '\n'.join(['| where | found | decision | normal form, or remedy |', '|---|---|---|---|', *rows])
