"""The files of many images in one folder, in the formats that were chosen; a second start goes on where the first one stopped."""

import csv
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from os.path import abspath, relpath
from pathlib import Path

import cv2
import numpy as np

from ..visualization import draw_instances, pixels_for_display
from .atomic_file import atomic_file
from .coco_json import coco_annotations, coco_image, write_coco
from .geojson import write_geojson
from .imagej_rois import load_roifile, write_rois
from .instance_result import InstanceResult
from .label_image import check_label_ending, write_label_image
from .output_names import output_names
from .pixels import read_pixels
from .records import Records
from .run_settings import keep_settings
from .tables import check_pixel_size, check_pixels, image_columns, image_row, object_columns, object_rows

FORMATS = ('overlays', 'labels', 'coco', 'geojson', 'rois', 'csv')
DEFAULT_FORMATS = ('overlays', 'labels', 'csv')
_FOLDERS = ('overlays', 'labels', 'geojson', 'rois', 'records')
_TABLES = ('objects.csv', 'images.csv', 'coco.json', 'failed.csv')


class PredictionFolder:
    """Writes the results of a list of images into a folder.

    ::

        overlays/NAME.png       objects.csv, images.csv   'csv'
        labels/NAME.png, .tif   coco.json                 'coco'
        geojson/NAME.geojson    failed.csv                where images failed
        rois/NAME.zip           records/                  which images are done

    NAME is the path of the image below ``image_folder`` (:func:`output_names`). It depends on the list of images alone:
    processes that share the images out among themselves, each with a ``PredictionFolder`` of the whole list, write the same
    files as one process.

    :meth:`write` writes the record of an image last, and at once (:class:`Records`): an image that was interrupted is done again.
    :meth:`finish` makes the tables from the records, in the order of the list; besides the list, memory is that of
    one object.

    Args:
        out: the folder; made if it is missing.
        images: paths of all images of the run.
        image_folder: the folder of the images, which names in tables and files leave out.
        class_names: of the model.
        settings: all that the results depend on (model, checkpoint, thresholds, ..), as plain values. Those of a second start
            must be the same, and so must the other arguments except ``images``: a second start may have more.
        formats: out of :data:`FORMATS`.
        label_ending: '.png' or '.tif'; see :func:`write_label_image`.
        pixel_size: edge of a pixel in micrometres, for columns in physical units.

    Raises:
        ValueError: if an argument does not fit, an image is named twice or lies where files are written, or the settings are
            others than those of the first start.
        ImportError: if 'rois' is chosen and roifile is not installed.

    Example::

        folder = PredictionFolder('out', images, image_folder='images', class_names=['nucleus'], settings={'model': 'nuclei'})
        for image in images:
            if not folder.is_done(image):
                try:
                    folder.write(segment(image))  # an InstanceResult
                except (OSError, ValueError) as error:
                    folder.fail(image, error)
        num_failed = folder.finish()
    """

    def __init__(
        self,
        out: str | Path,
        images: Sequence[str | Path],
        *,
        image_folder: str | Path,
        class_names: Sequence[str],
        settings: dict,
        formats: Sequence[str] = DEFAULT_FORMATS,
        label_ending: str = '.png',
        pixel_size: float | None = None,
    ) -> None:
        unknown = sorted(set(formats) - set(FORMATS))
        if unknown or not formats:
            raise ValueError(f'expected formats out of {", ".join(FORMATS)}, got {", ".join(unknown) or "none"}')
        check_label_ending(label_ending)
        check_pixel_size(pixel_size)
        if 'rois' in formats:
            load_roifile()  # it is missing now, or not at all
        self.out, self.image_folder = Path(out), str(image_folder)
        self.class_names, self.formats = tuple(class_names), frozenset(formats)
        self.label_ending, self.pixel_size = label_ending, pixel_size
        self._names = output_names(images, image_folder, [self.out / folder for folder in _FOLDERS])
        self._records = Records(self.out / 'records')
        arguments = {
            'image_folder': abspath(image_folder),
            'class_names': self.class_names,
            'formats': sorted(self.formats),
            'label_ending': label_ending,
            'pixel_size': pixel_size,
        }
        keep_settings(self.out / 'records' / 'settings.json', {**settings, **arguments})

    def is_done(self, image: str | Path) -> bool:
        """Whether all files of an image are there. One that failed is not done."""
        return self._record(abspath(image), self._name(image)) is not None

    def write(self, result: InstanceResult, pixels_HWC: np.ndarray | None = None) -> None:
        """Writes the files of an image, then its record.

        Args:
            result: with the path of one of the images.
            pixels_HWC: of the image file as :func:`read_pixels` returns them, where they have been read already. Overlay and
                intensities are made of them.

        Raises:
            ValueError: if the result has no path of one of the images, or another size than the pixels.
            OSError: if the image cannot be read or a file not be written.
        """
        if result.path is None:
            raise ValueError(
                'expected a result with the path of its image, got None: write the result of an array by write_label_image, '
                'write_geojson, write_rois, coco_annotations or object_rows'
            )
        name, in_tables = self._name(result.path), self._in_tables(result.path)
        if pixels_HWC is None and self.formats & {'overlays', 'csv'}:
            pixels_HWC = read_pixels(result.path)
        if pixels_HWC is not None:
            check_pixels(result, pixels_HWC, in_tables)
        rows, channels = [], 0
        if 'csv' in self.formats and pixels_HWC is not None:
            rows, channels = object_rows(result, in_tables, pixels_HWC, self.pixel_size), pixels_HWC.shape[2]
        annotations = coco_annotations(result) if 'coco' in self.formats else []
        files = [path.relative_to(self.out).as_posix() for path in self._write_files(result, name, pixels_HWC)]
        image = {'row': image_row(result, in_tables), 'channels': channels, 'files': files}
        self._records.write(
            name,
            image,
            [{'row': row, 'annotation': annotation} for row, annotation in zip_longest(rows, annotations)],
        )

    def fail(self, image: str | Path, error: Exception | str) -> None:
        """Notes that an image could not be read or segmented, for ``failed.csv``. The next start tries it again."""
        entry = {'image': self._in_tables(image), 'error': str(error) or repr(error)}
        self._records.fail(self._name(image), entry)

    def missing(self) -> list[str]:
        """The paths of the images that are neither done nor failed, in their order."""
        return [
            image
            for image, name in self._names.items()
            if self._record(image, name) is None and self._failure(image) is None
        ]

    def finish(self) -> int:
        """Writes the tables of all images. In a run of several processes one of them calls it, when all have done their images.

        Returns:
            the number of images that failed.

        Raises:
            ValueError: if an image is neither done nor failed.
        """
        failed = [image for image, name in self._names.items() if self._record(image, name) is None]
        missing = self.missing()
        if missing:
            raise ValueError(
                f'expected a record of each of the {len(self._names)} images in {self._records.folder}, got none of '
                f'{len(missing)}, the first one {missing[0]}: start again, which goes on with these'
            )
        if 'csv' in self.formats:
            channels = max((image['channels'] for _, image in self._images()), default=0)
            rows = (entry['row'] for _, entry in self._objects())
            _write_csv(self.out / 'objects.csv', object_columns(channels, self.pixel_size), rows)
            rows = (image['row'] for _, image in self._images())
            _write_csv(self.out / 'images.csv', image_columns(self.class_names), rows)
        if 'coco' in self.formats:
            images = (coco_image(number, image['row']) for number, image in self._images())
            annotations = ({'image_id': number, **entry['annotation']} for number, entry in self._objects())
            with atomic_file(self.out / 'coco.json') as file:
                write_coco(file, self.class_names, images, annotations)
        if failed:
            rows = (entry for entry in map(self._failure, failed) if entry is not None)
            _write_csv(self.out / 'failed.csv', ['image', 'error'], rows)
        else:
            (self.out / 'failed.csv').unlink(missing_ok=True)
        return len(failed)

    def _write_files(self, result: InstanceResult, name: str, pixels_HWC: np.ndarray | None) -> Iterator[Path]:
        """Writes the files of one image, and yields their paths."""
        if 'overlays' in self.formats and pixels_HWC is not None:
            path = self._path('overlays', f'{name}.png')
            drawn_HW3 = draw_instances(pixels_for_display(pixels_HWC), result.labels)
            path.write_bytes(cv2.imencode('.png', drawn_HW3[..., ::-1])[1].tobytes())
            yield path
        if 'labels' in self.formats:
            yield write_label_image(result, self._path('labels', name), self.label_ending)
        if 'geojson' in self.formats:
            path = self._path('geojson', f'{name}.geojson')
            write_geojson(result, path)
            yield path
        if 'rois' in self.formats:
            path = self._path('rois', f'{name}.zip')
            write_rois(result, path)
            yield path

    def _path(self, folder: str, name: str) -> Path:
        path = self.out / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _name(self, image: str | Path) -> str:
        name = self._names.get(abspath(image))
        if name is None:
            raise ValueError(f'expected one of the {len(self._names)} images of the run, got {image}')
        return name

    def _in_tables(self, image: str | Path) -> str:
        return Path(relpath(image, self.image_folder)).as_posix()

    def _record(self, image: str, name: str) -> dict | None:
        """The first line of the record of an image that is done.

        A record of another image, which had the name in a shorter list of images, is none of this image.
        """
        record = self._records.image(name)
        return record if record is not None and record['row']['image'] == self._in_tables(image) else None

    def _failure(self, image: str) -> dict | None:
        failure = self._records.failure(self._names[image])
        return failure if failure is not None and failure['image'] == self._in_tables(image) else None

    def _images(self) -> Iterator[tuple[int, dict]]:
        """The number of each image that is done, which is its place in the list from 1, and the first line of its record."""
        for number, (image, name) in enumerate(self._names.items(), start=1):
            record = self._record(image, name)
            if record is not None:
                yield number, record

    def _objects(self) -> Iterator[tuple[int, dict]]:
        """The number of its image and the line of the record for each object."""
        names = list(self._names.values())
        for number, _ in self._images():
            for entry in self._records.objects(names[number - 1]):
                yield number, entry


def remove_predictions(out: str | Path) -> None:
    """Removes what a :class:`PredictionFolder` wrote into a folder, and nothing else, to begin again.

    In a run of several processes one of them calls it, before the others open the folder.
    """
    out = Path(out)
    records = Records(out / 'records')
    for image in records.all_images():
        for file in image['files']:
            (out / file).unlink(missing_ok=True)
    for file in _TABLES:
        (out / file).unlink(missing_ok=True)
    shutil.rmtree(records.folder, ignore_errors=True)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict]) -> None:
    with atomic_file(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator='\n')  # empty where a row lacks a column
        writer.writeheader()
        writer.writerows(rows)
