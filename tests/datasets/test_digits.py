"""The digits: statistics of the generator, and its files, against plain recomputations."""

import functools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy import ndimage

from mmseg_instancenet.datasets import DigitsDataset, digits
from mmseg_instancenet.datasets import coco as coco_module
from mmseg_instancenet.datasets.digits import CANVAS, Canvas, compose, load_originals, write_digits

EIGHT = np.ones((3, 3))


@pytest.fixture(scope='module', params=['train', 'val'])
def canvases(request) -> list[Canvas]:
    rng = np.random.default_rng(11)
    originals = load_originals(request.param)
    return [compose(originals, rng) for _ in range(250)]


def touches_own_class(canvas: Canvas) -> list[bool]:
    """For each digit, whether it overlaps or is an 8-neighbour of another digit of its class."""
    result = []
    for a, mask in enumerate(canvas.masks):
        around = ndimage.binary_dilation(mask, EIGHT)
        others = [b for b in range(len(canvas.masks)) if b != a and canvas.classes[b] == canvas.classes[a]]
        result.append(any((around & canvas.masks[b]).any() for b in others))
    return result


def stroke_width(mask: np.ndarray, factor: int = 8) -> float:
    """Twice the median distance to the outline along the ridge of a shape, on an enlarged copy of it."""
    padded = np.pad(mask.astype(np.float32), 2)
    large = cv2.resize(padded, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR) > 0.5
    distance = cv2.distanceTransform(large.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ridge = large & (distance >= cv2.dilate(distance, np.ones((3, 3), np.uint8)))
    return float(2 * np.median(distance[ridge]) / factor)


def component_recall(canvases: list[Canvas], structure: np.ndarray) -> float:
    """Share of digits that a connected component of their class matches, averaged over IoU 0.5, 0.55, .., 0.95."""
    matched, count = np.zeros(10), 0
    for canvas in canvases:
        for digit in set(canvas.classes.tolist()):
            own = canvas.masks[canvas.classes == digit]
            labels, number = ndimage.label(own.any(0), structure)
            components = [labels == index for index in range(1, number + 1)]
            for mask in own:
                best = max((mask & part).sum() / (mask | part).sum() for part in components)
                matched += best >= np.linspace(0.5, 0.95, 10)
                count += 1
    return float(matched.mean() / count)


def test_counts_and_classes_all_occur(canvases):
    numbers = [len(canvas.masks) for canvas in canvases]
    assert set(numbers) == {2, 3, 4, 5}
    assert set(np.concatenate([canvas.classes for canvas in canvases]).tolist()) == set(range(10))


def test_masks_are_disjoint_and_are_the_ink(canvases):
    for canvas in canvases:
        assert canvas.image.shape == (CANVAS, CANVAS) and canvas.image.dtype == np.uint8
        assert (canvas.masks.sum(0) <= 1).all(), 'two digits own one pixel'
        assert (canvas.masks.sum((1, 2)) > 0).all(), 'a digit without a pixel'
        inked = canvas.masks.any(0)
        assert canvas.image[inked].min() >= 127 and canvas.image[~inked].max() <= 128


def test_many_digits_touch_one_of_their_own_class(canvases):
    recomputed = [touches_own_class(canvas) for canvas in canvases]
    share = np.mean(np.concatenate(recomputed))
    assert 0.3 <= share < 0.9, f'{share:.2f} of the digits touch one of their class'
    for canvas, expected in zip(canvases, recomputed, strict=True):
        assert canvas.touching.tolist() == expected


def test_stroke_width_estimate_is_right_for_known_strokes():
    for width in (2, 3, 4):
        bar = np.zeros((30, 30), bool)
        bar[6 : 6 + width, 4:26] = True
        assert stroke_width(bar) == pytest.approx(width, abs=0.05)
        row, column = np.mgrid[:41, :41]
        ring = np.abs(np.hypot(row - 20, column - 20) - 9) < width / 2
        assert stroke_width(ring) == pytest.approx(width, abs=0.25)


def test_strokes_are_two_to_three_and_a_half_pixels_wide(canvases):
    width = np.median([stroke_width(mask) for canvas in canvases for mask in canvas.masks])
    assert 2 <= width <= 3.5, f'median stroke width {width:.2f}'


@pytest.mark.parametrize('structure', [ndimage.generate_binary_structure(2, 1), EIGHT], ids=['four', 'eight'])
def test_true_classes_alone_do_not_separate_the_digits(canvases, structure):
    share = component_recall(canvases, structure)
    assert share < 0.6, f'connected components find {share:.2f} of the digits: nothing is left to group'


def test_train_and_val_share_no_original():
    train, val = load_originals('train'), load_originals('val')
    seen = [{image.tobytes() for images in split.values() for image in images} for split in (train, val)]
    assert not seen[0] & seen[1]
    count = [sum(map(len, split.values())) for split in (train, val)]
    assert sum(count) == 1797 and 0.15 < count[1] / 1797 < 0.25
    assert sorted(train) == sorted(val) == list(range(10))


def test_unknown_split():
    with pytest.raises(ValueError, match="'train' or 'val', got 'test'"):
        load_originals('test')


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_same_seed_same_bytes_and_other_seed_other_images(tmp_path):
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        write_digits(tmp_path / name, num_train=6, num_val=3, seed=seed)
    a, b, c = (read_all(tmp_path / name) for name in 'abc')
    assert sorted(a) == ['train.json', *(f'train/0000{i}.png' for i in range(1, 7)), 'val.json'] + [
        f'val/0000{i}.png' for i in range(1, 4)
    ]
    assert a == b
    assert sorted(a) == sorted(c)
    assert all(a[name] != c[name] for name in a)
    # Neither do the two splits of one seed repeat each other.
    assert not {a[name] for name in a if name.startswith('train/')} & {a[n] for n in a if n.startswith('val/')}


def test_json_is_valid_coco_and_decodes_to_the_masks(tmp_path, monkeypatch):
    composed: list[Canvas] = []

    def recording(*args) -> Canvas:
        composed.append(compose(*args))
        return composed[-1]

    monkeypatch.setattr(digits, 'compose', recording)
    write_digits(tmp_path, num_train=5, num_val=4)
    for split, expected in (('train', composed[:5]), ('val', composed[5:])):
        coco = COCO(str(tmp_path / f'{split}.json'))
        assert [category['name'] for category in coco.dataset['categories']] == list('0123456789')
        assert len(coco.dataset['images']) == len(expected)
        annotation_ids = [annotation['id'] for annotation in coco.dataset['annotations']]
        assert len(set(annotation_ids)) == len(annotation_ids) == sum(len(canvas.masks) for canvas in expected)
        for info, canvas in zip(coco.dataset['images'], expected, strict=True):
            image = cv2.imread(str(tmp_path / split / info['file_name']), cv2.IMREAD_UNCHANGED)
            assert (info['height'], info['width']) == image.shape == (CANVAS, CANVAS)
            np.testing.assert_array_equal(image, canvas.image)
            annotations = coco.imgToAnns[info['id']]
            assert len(annotations) == len(canvas.masks)
            for annotation, mask, digit in zip(annotations, canvas.masks, canvas.classes, strict=True):
                np.testing.assert_array_equal(coco.annToMask(annotation), mask)
                assert coco.cats[annotation['category_id']]['name'] == str(digit)
                assert annotation['iscrowd'] == 0 and annotation['area'] == mask.sum()
                rows, columns = np.nonzero(mask)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert annotation['bbox'] == box
                assert coco_mask.area(annotation['segmentation']) == mask.sum()


@pytest.fixture
def few_digits(monkeypatch) -> list[Path]:
    """Makes the data set write 6 + 3 images instead of 5500; returns the folders that were written."""
    written = []

    def write(folder, **kwargs):
        written.append(Path(folder))
        functools.partial(write_digits, num_train=6, num_val=3)(folder, **kwargs)

    monkeypatch.setattr(coco_module, 'write_digits', write)
    return written


def digits_dataset(folder: Path, split: str = 'train') -> DigitsDataset:
    return DigitsDataset(data_root=str(folder), ann_file=f'{split}.json', data_prefix={'img': f'{split}/'}, pipeline=[])


def test_dataset_writes_the_digits_where_they_are_absent(tmp_path, few_digits):
    folder = tmp_path / 'not' / 'yet' / 'there'
    dataset = digits_dataset(folder)
    assert few_digits == [folder]
    assert len(dataset) == 6
    assert dataset.metainfo['classes'] == tuple('0123456789')
    truth = json.loads((folder / 'train.json').read_text())['annotations']
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        assert Path(info['img_path']).is_file()
        own = [annotation for annotation in truth if annotation['image_id'] == info['img_id']]
        assert [instance['bbox_label'] + 1 for instance in info['instances']] == [a['category_id'] for a in own]
        assert all(instance['ignore_flag'] == 0 for instance in info['instances'])


def test_dataset_does_not_write_where_they_are_present(tmp_path, few_digits):
    digits_dataset(tmp_path)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob('*.*')}
    assert len(digits_dataset(tmp_path, 'train')) == 6
    assert len(digits_dataset(tmp_path, 'val')) == 3
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob('*.*')}


@pytest.mark.parametrize(('there', 'missing'), [('train', 'val'), ('val', 'train')])
def test_a_split_that_is_missing_is_written_beside_the_other(tmp_path, few_digits, there, missing):
    """The state after an interruption between the two."""
    whole, folder = tmp_path / 'whole', tmp_path / 'half'
    for place in (whole, folder):
        write_digits(place, num_train=6, num_val=3)
    (folder / f'{missing}.json').unlink()
    (folder / f'{missing}/00002.png').unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob(f'{there}*/**/*') if path.is_file()}
    before[folder / f'{there}.json'] = (folder / f'{there}.json').stat().st_mtime_ns
    assert len(digits_dataset(folder, missing)) == {'train': 6, 'val': 3}[missing]
    assert read_all(folder) == read_all(whole)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_digits_are_not_added_to_another_data_set(tmp_path, few_digits):
    (tmp_path / 'train.json').write_text(json.dumps({'info': {'description': 'leaves'}, 'images': []}))
    with pytest.raises(
        ValueError, match='got .*train.json of another data set: give the digits a data_root of their own'
    ):
        digits_dataset(tmp_path, 'val')
    assert list(read_all(tmp_path)) == ['train.json']


def test_a_mistyped_name_writes_nothing(tmp_path, few_digits):
    with pytest.raises(FileNotFoundError):
        digits_dataset(tmp_path, 'vall')
    assert few_digits == []
