"""A small set in COCO's format, to which a fault of each kind of ``CHECKS`` can be added."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 20, 30
BOX = 4, 3, 10, 8
"""x1, y1, x2, y2 of the object of each image."""


def run_lengths(*box: int) -> dict:
    """The mask of a box, as compressed run lengths."""
    left, top, right, bottom = box
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    mask[top:bottom, left:right] = 1
    encoded = coco_mask.encode(mask)
    return {'size': encoded['size'], 'counts': encoded['counts'].decode()}


def corners(*box: float) -> list:
    """A box as a polygon."""
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]


class SmallSet:
    """``instances.json`` and ``images/`` in a folder: one image with a cat, one with a dog, and the additions of
    faults."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = {'images': [], 'annotations': []}
        self.content['categories'] = [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}]
        self.classes = ('cat', 'dog')
        self.text: bytes | None = None
        self.cat, self.dog = self.object(), self.object(category_id=2)

    def file(self, name: str) -> Path:
        path = self.folder / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def image(self, name: str | None = None, pixels: np.ndarray | None = None) -> dict:
        """Adds an image without an object."""
        number = len(self.content['images']) + 1
        entry = {'id': number, 'file_name': name or f'{number}.png', 'height': HEIGHT, 'width': WIDTH}
        if not self.file(entry['file_name']).exists():
            image = np.full((HEIGHT, WIDTH, 3), number, np.uint8) if pixels is None else pixels
            assert cv2.imwrite(str(self.file(entry['file_name'])), image)
        self.content['images'].append(entry)
        return entry

    def object(self, image: dict | None = None, box: tuple[int, int, int, int] = BOX, **changes) -> dict:
        """Adds an object, on an image of its own unless one is given, with some of its entries replaced."""
        left, top, right, bottom = box
        entry = {
            'id': len(self.content['annotations']) + 1,
            'image_id': (image or self.image())['id'],
            'category_id': 1,
            'iscrowd': 0,
            'area': (right - left) * (bottom - top),
            'bbox': [left, top, right - left, bottom - top],
            'segmentation': run_lengths(*box),
            **changes,
        }
        self.content['annotations'].append(entry)
        return entry

    def write(self) -> Path:
        path = self.folder / 'instances.json'
        path.write_bytes(json.dumps(self.content).encode() if self.text is None else self.text)
        return path


def with_mask(segmentation: object) -> Callable[[SmallSet], None]:
    return lambda data: data.object(segmentation=segmentation) and None


def without(key: str) -> Callable[[SmallSet], None]:
    return lambda data: data.object().pop(key) and None


def _image_entry(**changes) -> Callable[[SmallSet], None]:
    return lambda data: data.image().update(changes)


def _byte_order_mark(data: SmallSet) -> None:
    data.text = b'\xef\xbb\xbf' + json.dumps(data.content).encode()


def _no_json(data: SmallSet) -> None:
    data.text = json.dumps(data.content).encode()[:-20]


def _all_ignored(data: SmallSet) -> None:
    data.content['annotations'] = [data.cat]
    data.content['images'] = data.content['images'][:1]
    data.cat['iscrowd'] = 1


def _image_with_text_as_id(data: SmallSet) -> None:
    image = data.image()
    data.object(image)
    image['id'] = str(image['id'])


def _text_as_reference(data: SmallSet) -> None:
    image = data.image()
    data.object(image, image_id=str(image['id']))


def _duplicate_image_id(data: SmallSet) -> None:
    data.image()['id'] = 1


def _size_as_text(data: SmallSet) -> None:
    image = data.image()
    image['width'] = str(WIDTH)
    data.object(image)


def _no_image(data: SmallSet) -> None:
    data.content['images'].clear()
    data.content['annotations'].clear()


def _missing_image(data: SmallSet) -> None:
    image = data.image()
    data.object(image)
    data.file(image['file_name']).unlink()


def _empty_file(data: SmallSet) -> None:
    image = data.image()
    data.object(image)
    data.file(image['file_name']).write_bytes(b'')


def _other_size(data: SmallSet) -> None:
    data.object(data.image(pixels=np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8)))


def upside_down(data: SmallSet, orientation: int = 3, size: tuple[int, int] = (HEIGHT, WIDTH)) -> dict:
    """Adds an image with an EXIF orientation; (height, width) as stored."""
    name = f'turned_{orientation}.jpg'
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', size[::-1]).save(data.file(name), exif=exif)
    image = data.image(name)
    data.object(image)
    return image


def _sixteen_bits(data: SmallSet) -> None:
    data.object(data.image(pixels=np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)))


def _listed_twice(data: SmallSet) -> None:
    data.object(data.image('1.png'))


def _same_name(data: SmallSet) -> None:
    data.object(data.image('more/2.png'))


def _other_class(data: SmallSet) -> None:
    data.content['categories'].append({'id': 3, 'name': 'cow'})
    data.object(data.content['images'][0], (15, 12, 20, 16), category_id=3)


def _same_mask(data: SmallSet) -> None:
    image = data.image()
    data.object(image)
    data.object(image, segmentation=[corners(*BOX)])


def _change(**changes) -> Callable[[SmallSet], None]:
    return lambda data: data.object(**changes) and None


def _add_category(**entry) -> Callable[[SmallSet], None]:
    return lambda data: data.content['categories'].append(entry)


FAULTS: dict[str, Callable[[SmallSet], None]] = {
    'byte-order-mark': _byte_order_mark,
    'no-json': _no_json,
    'no-coco': lambda data: data.content.pop('categories') and None,
    'no-annotation': lambda data: data.content['annotations'].clear(),
    'all-ignored': _all_ignored,
    'class-without-object': lambda data: data.dog.update(iscrowd=1),
    'image-entry': _image_entry(file_name=None),
    'image-id': _image_with_text_as_id,
    'duplicate-image-id': _duplicate_image_id,
    'image-size-as-text': _size_as_text,
    'image-size': _image_entry(width=0),
    'category-id': lambda data: data.content['categories'][0].update(id='1'),
    'category-name': _add_category(id=7),
    'duplicate-category': _add_category(id=7, name='cat'),
    'annotation-entry': lambda data: data.content['annotations'].append(5),
    'annotation-id': _change(id=0),
    'unknown-image': lambda data: data.object(data.content['images'][0], image_id=1000) and None,
    'unknown-category': _change(category_id=1000),
    'reference-as-text': _text_as_reference,
    'no-crowd-flag': without('iscrowd'),
    'crowd-flag-as-text': _change(iscrowd='0'),
    'crowd-flag': _change(iscrowd=2),
    'no-mask': without('segmentation'),
    'segmentation-form': with_mask('mask.png'),
    'flat-polygon': with_mask(corners(*BOX)),
    'polygon-of-pairs': with_mask([[[4, 3], [10, 3], [10, 8], [4, 8]]]),
    'coordinates-as-text': with_mask([[str(value) for value in corners(*BOX)]]),
    'empty-ring': with_mask([corners(*BOX), [1, 1]]),
    'point-polygon': with_mask([[4, 3, 10, 8]]),
    'odd-polygon': with_mask([[*corners(*BOX), 4]]),
    'coordinate': with_mask([[float('nan'), *corners(*BOX)[1:]]]),
    'shares': with_mask([[0.1, 0.2, 0.3, 0.2, 0.3, 0.4, 0.1, 0.4]]),
    'outside': with_mask([corners(4, 3, 10, HEIGHT + 11)]),
    'over-the-border': _change(segmentation=[corners(4, 3, 10, HEIGHT + 4)], bbox=[4, 3, 6, HEIGHT - 3]),
    'mask-size': with_mask({'size': [WIDTH, HEIGHT], 'counts': [100, 20, WIDTH * HEIGHT - 120]}),
    'counts': with_mask({'size': [HEIGHT, WIDTH], 'counts': [100, 20]}),
    'no-pixel': lambda data: data.object(data.content['images'][0], segmentation=run_lengths(0, 0, 0, 0)) and None,
    'area': _change(area=0),
    'box': without('bbox'),
    'other-box': _change(bbox=[4, 3, 10, 8]),
    'no-image': _no_image,
    'classes': lambda data: setattr(data, 'classes', ('dog', 'cat')),
    'missing-image': _missing_image,
    'unreadable-image': _empty_file,
    'other-size': _other_size,
    'orientation': lambda data: upside_down(data) and None,
    'depth': _sixteen_bits,
    'image-listed-twice': _listed_twice,
    'same-name': _same_name,
    'image-without-annotation': lambda data: data.image() and None,
    'other-class': _other_class,
    'same-mask': _same_mask,
    'whole-image': lambda data: data.object(box=(0, 0, WIDTH, HEIGHT)) and None,
}
"""Puts one fault into a set, by the name of the check that finds it."""
