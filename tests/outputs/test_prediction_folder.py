"""A folder of predictions: its files, a second start, failures, several processes."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from instance_results import ragged_masks, result_of
from pycocotools.coco import COCO

from mmseg_instancenet.outputs import (
    DEFAULT_FORMATS,
    FORMATS,
    PredictionFolder,
    image_columns,
    object_columns,
    prediction_folder,
    remove_predictions,
)
from mmseg_instancenet.outputs.atomic_file import atomic_file

ROIFILE = "roifile is not installed: pip install -e '.[rois]'"
WITHOUT_ROIS = ('overlays', 'labels', 'coco', 'geojson', 'csv')


@pytest.fixture
def images(tmp_path) -> list[str]:
    """Three images in two folders; the last one has three channels of 16 bits."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / 'images' / name for name in ('b/2.png', 'a/1.png', 'a/1.tif')]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = rng.integers(0, 255, (33, 40)).astype(np.uint8)
        cv2.imwrite(str(path), grey if path.suffix == '.png' else np.dstack([grey, grey, grey]).astype(np.uint16) * 200)
    return [str(path) for path in paths]


def open_folder(out, images, **kwargs) -> PredictionFolder:
    arguments = dict(image_folder=Path(images[0]).parents[1], class_names=['cat', 'dog'], settings={'model': 'nuclei'})
    return PredictionFolder(out, images, **{**arguments, **kwargs})


def result(image, count=3):
    return result_of(ragged_masks(seed=len(image))[:count], path=image)


def files_of(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob('*') if path.is_file()}


def rows_of(path: Path) -> list[dict]:
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def test_all_formats(tmp_path, images):
    pytest.importorskip('roifile', reason=ROIFILE)
    out = tmp_path / 'out'
    folder = open_folder(out, images, formats=(*WITHOUT_ROIS, 'rois'), pixel_size=0.5)
    for count, image in enumerate(images):
        folder.write(result(image, count))
    assert folder.finish() == 0
    written = {
        f'{kind}/{name}{ending}'
        for kind, ending in (('overlays', '.png'), ('labels', '.png'), ('geojson', '.geojson'), ('rois', '.zip'))
        for name in ('b/2', 'a/1', 'a/1.tif')
    }
    tables = {'objects.csv', 'images.csv', 'coco.json'}
    assert {file for file in files_of(out) if not file.startswith('records/')} == written | tables
    for count, (image, name) in enumerate(zip(images, ('b/2', 'a/1', 'a/1.tif'), strict=True)):
        labels = cv2.imread(str(out / 'labels' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(labels, result(image, count).labels)
        overlay = cv2.imread(str(out / 'overlays' / f'{name}.png'))
        assert overlay.shape == (33, 40, 3)
        grey = (overlay == overlay[..., :1]).all(2)
        assert grey[labels == 0].all() and not grey[labels > 0].any()  # colour on the instances alone
        assert len(json.loads((out / 'geojson' / f'{name}.geojson').read_text())['features']) == count


def test_tables(tmp_path, images):
    """In the order of the list, read back by pandas; an image of fewer channels has empty fields."""
    pandas = pytest.importorskip(
        'pandas', reason='pandas is not installed; onedl-mim brings it, except for Python 3.14'
    )
    out = tmp_path / 'out'
    folder = open_folder(out, images, formats=('csv',), pixel_size=0.5)
    for image in images:
        folder.write(result(image))
    folder.finish()
    objects, table = pandas.read_csv(out / 'objects.csv'), pandas.read_csv(out / 'images.csv')
    names = ['b/2.png', 'a/1.png', 'a/1.tif']
    assert objects['image'].tolist() == [name for name in names for _ in range(3)]
    assert objects['id'].tolist() == [1, 2, 3] * 3 and objects['class'].tolist() == ['dog', 'cat', 'dog'] * 3
    areas = [mask.sum() for image in images for mask in ragged_masks(len(image))[:3]]
    assert objects['area'].tolist() == areas and objects['area_um2'].tolist() == [area / 4 for area in areas]
    first = objects[objects['image'] == 'b/2.png'].iloc[1]
    mask, pixels = ragged_masks(len(images[0]))[1], cv2.imread(images[0], cv2.IMREAD_UNCHANGED)
    assert first['mean_intensity_1'] == pytest.approx(pixels[mask].mean())
    assert objects['mean_intensity_3'].isna().tolist() == [True] * 6 + [False] * 3
    assert table.to_dict('records') == [
        {'image': name, 'width': 40, 'height': 33, 'count': 3, 'count_cat': 1, 'count_dog': 2} for name in names
    ]


def test_coco_of_several_images(tmp_path, images):
    out = tmp_path / 'out'
    folder = open_folder(out, images, formats=('coco',))
    folder.write(result(images[2]))
    folder.fail(images[1], ValueError('no image'))
    folder.write(result(images[0]))
    assert folder.finish() == 1
    coco = COCO(out / 'coco.json')
    assert [(image['id'], image['file_name']) for image in coco.dataset['images']] == [(1, 'b/2.png'), (3, 'a/1.tif')]
    assert [annotation['image_id'] for annotation in coco.dataset['annotations']] == [1, 1, 1, 3, 3, 3]
    for annotation, mask in zip(coco.loadAnns(coco.getAnnIds(imgIds=[3])), ragged_masks(len(images[2])), strict=False):
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize('formats', [WITHOUT_ROIS, ('rois',)])
def test_two_processes_write_the_files_of_one(tmp_path, images, order, formats):
    if 'rois' in formats:
        pytest.importorskip('roifile', reason=ROIFILE)
    one, two = tmp_path / 'one', tmp_path / 'two'
    folder = open_folder(one, images, formats=formats)
    for image in images:
        folder.write(result(image))
    folder.finish()
    folders = [open_folder(two, images, formats=formats) for _ in range(2)]
    for place in order:
        folders[place % 2].write(result(images[place]))
    folders[1].finish()
    assert files_of(one) == files_of(two)


@pytest.mark.parametrize('step', ['write_label_image', 'write_geojson', 'object_rows', 'coco_annotations', 'image_row'])
def test_an_interrupted_image_is_done_again(tmp_path, images, monkeypatch, step):
    """The program is stopped in any step of the second image; the second start writes what an uninterrupted one writes."""
    whole = open_folder(tmp_path / 'whole', images, formats=WITHOUT_ROIS)
    for image in images:
        whole.write(result(image))
    whole.finish()

    out = tmp_path / 'out'
    folder = open_folder(out, images, formats=WITHOUT_ROIS)
    folder.write(result(images[0]))
    with monkeypatch.context() as patch:
        patch.setattr(prediction_folder, step, lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder.write(result(images[1]))
    again = open_folder(out, images, formats=WITHOUT_ROIS)
    assert [again.is_done(image) for image in images] == [True, False, False]
    with pytest.raises(
        ValueError, match=r'record of each of the 3 images .* none of 2, the first one .*1\.png: start again'
    ):
        again.finish()
    for image in images:
        if not again.is_done(image):
            again.write(result(image))
    again.finish()
    assert files_of(out) == files_of(tmp_path / 'whole')


def test_a_failed_image_is_tried_again(tmp_path, images):
    out = tmp_path / 'out'
    folder = open_folder(out, images)
    for image in images[:2]:
        folder.write(result(image))
    folder.fail(images[2], OSError('cut off, at "byte" 3'))
    assert not folder.is_done(images[2]) and folder.finish() == 1
    assert rows_of(out / 'failed.csv') == [{'image': 'a/1.tif', 'error': 'cut off, at "byte" 3'}]
    assert [row['image'] for row in rows_of(out / 'images.csv')] == ['b/2.png', 'a/1.png']
    again = open_folder(out, images)
    again.write(result(images[2]))
    assert again.is_done(images[2]) and again.finish() == 0
    assert not (out / 'failed.csv').exists() and len(rows_of(out / 'images.csv')) == 3


@pytest.mark.parametrize(
    'changed, difference',
    [
        ({'settings': {'model': 'people'}}, "model 'people' instead of 'nuclei'"),
        ({'settings': {'model': 'nuclei', 'tile': 512}}, 'tile 512 instead of None'),
        ({'formats': ('labels', 'csv')}, r"formats \['csv', 'labels'\] instead of \['csv', 'labels', 'overlays'\]"),
        ({'class_names': ['cat']}, r"class_names \['cat'\] instead of \['cat', 'dog'\]"),
        ({'pixel_size': 0.5}, 'pixel_size 0.5 instead of None'),
        ({'label_ending': '.tif'}, r"label_ending '\.tif' instead of '\.png'"),
        ({'image_folder': '/elsewhere'}, 'image_folder .*elsewhere'),
    ],
)
def test_a_second_start_with_other_settings(tmp_path, images, changed, difference):
    open_folder(tmp_path / 'out', images)
    open_folder(tmp_path / 'out', images, formats=DEFAULT_FORMATS[::-1])  # the same
    with pytest.raises(ValueError, match=f'{difference}.* --out, or --overwrite'):
        open_folder(tmp_path / 'out', images, **changed)


def test_more_images_in_a_second_start(tmp_path, images):
    """Where names depend on the images before, the record of another image is not taken for that of an image."""
    outside = tmp_path / 'a' / '1.png'  # drops '..' from its name, and is a/1 as well
    outside.parent.mkdir()
    cv2.imwrite(str(outside), np.zeros((33, 40), np.uint8))
    first = open_folder(tmp_path / 'out', [images[1]])
    first.write(result(images[1]))
    second = open_folder(tmp_path / 'out', [outside, images[1]], image_folder=Path(images[1]).parents[1])
    assert not second.is_done(outside) and not second.is_done(images[1])
    second.write(result(str(outside)))
    second.write(result(images[1]))
    assert second.finish() == 0
    assert [row['image'] for row in rows_of(tmp_path / 'out' / 'images.csv')] == ['../a/1.png', 'a/1.png']
    assert (tmp_path / 'out' / 'labels' / 'a' / '1_2.png').is_file()


def test_pixels_that_were_read_already(tmp_path, images):
    folder = open_folder(tmp_path / 'out', images[:1], formats=('csv',))
    folder.write(result(images[0]), np.full((33, 40, 2), 7, np.uint8))
    folder.finish()
    assert {row['mean_intensity_2'] for row in rows_of(tmp_path / 'out' / 'objects.csv')} == {'7.0'}
    for formats in (('overlays',), ('csv',)):
        folder = open_folder(tmp_path / formats[0], images[:1], formats=formats)
        with pytest.raises(ValueError, match=r'b/2\.png: expected pixels \(33, 40, C\)'):
            folder.write(result(images[0]), np.zeros((5, 5, 1), np.uint8))
        assert not folder.is_done(images[0])


def test_arguments_that_do_not_fit(tmp_path, images):
    for formats, got in ((('csv', 'roi'), 'roi'), ((), 'none')):
        with pytest.raises(ValueError, match=f'formats out of overlays, labels, .*, got {got}'):
            open_folder(tmp_path / 'out', images, formats=formats)
    with pytest.raises(ValueError, match='ending of label images'):
        open_folder(tmp_path / 'out', images, label_ending='tif')
    with pytest.raises(ValueError, match='positive pixel size'):
        open_folder(tmp_path / 'out', images, pixel_size=0)
    with pytest.raises(ValueError, match='each image once, got .* twice'):
        open_folder(tmp_path / 'out', [*images, images[0]])
    with pytest.raises(ValueError, match='images outside of the folders that are written'):
        open_folder(tmp_path / 'out', [tmp_path / 'out' / 'overlays' / 'a.png', *images[1:]], image_folder=tmp_path)
    assert not (tmp_path / 'out').exists()
    folder = open_folder(tmp_path / 'out', images)
    with pytest.raises(ValueError, match='one of the 3 images of the run, got elsewhere.png'):
        folder.is_done('elsewhere.png')
    with pytest.raises(ValueError, match='path of its image, got None'):
        folder.write(result_of(ragged_masks(seed=0)))


def test_to_begin_again(tmp_path, images):
    """What the folder wrote is removed, and files of others stay."""
    out = tmp_path / 'out'
    folder = open_folder(out, images, formats=WITHOUT_ROIS)
    for image in images[:2]:
        folder.write(result(image))
    folder.fail(images[2], 'no image')
    folder.finish()
    (out / 'labels' / 'notes.txt').write_text('mine')
    remove_predictions(out)
    assert files_of(out) == {'labels/notes.txt': b'mine'}
    remove_predictions(tmp_path / 'nothing')
    assert not open_folder(out, images, settings={'model': 'people'}).is_done(images[0])


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / 'a.txt'
    for before in (None, 'before'):
        with pytest.raises(KeyboardInterrupt), atomic_file(path) as file:
            file.write('half')
            raise KeyboardInterrupt
        assert (path.read_text() if path.exists() else None) == before
        path.write_text('before')
    assert [one.name for one in tmp_path.iterdir()] == ['a.txt']


def test_the_page_names_all_formats_and_columns():
    page = (Path(__file__).parents[2] / 'docs' / 'predict.md').read_text('utf-8')
    for name in (*FORMATS, *object_columns(1, pixel_size=1.0), *image_columns([])):
        assert f'`{name}`' in page
