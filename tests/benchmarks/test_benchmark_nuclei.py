"""Baselines for nuclei, on label maps and images made by hand."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from benchmarks import nuclei_baselines
from benchmarks.nuclei_baselines import (
    Counts,
    Found,
    components,
    count_pairs,
    distance_watershed,
    is_fluorescent,
    otsu_foreground,
    pool,
    read_label_map,
    renumbered,
)

ROW = (16, 12), (16, 26), (16, 40), (16, 62)
"""Centres of four discs, the first three of which touch."""


def discs(size, *centres, radius=8):
    """(H, W) labels of discs, numbered in order."""
    row_HW, column_HW = np.mgrid[: size[0], : size[1]]
    labels_HW = np.zeros(size, int)
    for number, (row, column) in enumerate(centres, 1):
        labels_HW[(row_HW - row) ** 2 + (column_HW - column) ** 2 <= radius**2] = number
    return labels_HW


def test_watershed_splits_touching_objects_and_components_join_them():
    truth_HW = discs((32, 76), *ROW)
    joined_HW = components(truth_HW > 0)
    assert joined_HW.max() == 2
    assert count_pairs(truth_HW, joined_HW) == Counts(4, 2, 1, 1)
    split_HW = distance_watershed(truth_HW > 0, distance_sigma=1, min_distance=5)
    assert count_pairs(truth_HW, split_HW) == Counts(4, 4, 4, 4)
    assert np.array_equal(split_HW > 0, truth_HW > 0)


def test_small_objects_are_dropped():
    truth_HW = discs((32, 60), (16, 12), (16, 48))
    truth_HW[0, 30:33] = 3
    for segment in (components, lambda *args, **kw: distance_watershed(*args, 0, 5, **kw)):
        assert len(np.unique(segment(truth_HW > 0, min_size=3))) == 4
        assert len(np.unique(segment(truth_HW > 0, min_size=4))) == 3


@pytest.mark.parametrize('background, objects', [(20, 120), (230, 90)])
@pytest.mark.parametrize('blur', [0, 1])
def test_foreground_is_the_smaller_side(background, objects, blur):
    truth_HW = discs((32, 60), (16, 12), (16, 48)) > 0
    pixels_HWC = np.where(truth_HW, objects, background).astype(np.uint8)[..., None].repeat(3, 2)
    assert (otsu_foreground(pixels_HWC, blur) ^ truth_HW).mean() < 0.02


def test_image_of_one_grey_has_no_foreground():
    assert not otsu_foreground(np.full((4, 4, 3), 7, np.uint8)).any()
    assert not distance_watershed(np.zeros((4, 4), bool), 1, 5).any()


def test_fluorescence():
    dark = np.full((4, 4, 3), 10, np.uint8)
    coloured = dark.copy()
    coloured[0, 0, 2] = 11
    assert [is_fluorescent(image) for image in (dark, coloured, dark + 200)] == [True, False, False]


def test_pooled_over_images():
    # TP 3, FP 1, FN 2 at .5; one pair fewer at .75.
    assert pool([Counts(4, 2, 2, 1), Counts(1, 2, 1, 1)]) == (3 / 6, 2 / 7, 1.5)
    assert np.isnan(pool([])).all()


def test_labels_without_pixels_have_no_score():
    labels_HW, score_K = renumbered(Found(np.array([[4, 0, 2]]), np.array([0.1, 0.2, 0.3, 0.4])))
    assert labels_HW.tolist() == [[2, 0, 1]]
    assert score_K.tolist() == [0.2, 0.4]
    assert renumbered(Found(np.array([[4, 0, 2]])))[1].tolist() == [1, 1]
    with pytest.raises(ValueError, match='a score for each label up to 4, got 3'):
        renumbered(Found(np.array([[4]]), np.ones(3)))


def test_label_maps_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match='expected a label map for each image, got no'):
        read_label_map(tmp_path / 'a.npz', (2, 3))
    np.savez(tmp_path / 'a.npz', labels=np.zeros((3, 2), int))
    with pytest.raises(ValueError, match=r'of the size \(2, 3\) of its image, got \(3, 2\)'):
        read_label_map(tmp_path / 'a.npz', (2, 3))
    np.savez(tmp_path / 'a.npz', found=np.zeros((2, 3), int))
    with pytest.raises(ValueError, match=r"got arrays \['found'\]"):
        read_label_map(tmp_path / 'a.npz', (2, 3))


@pytest.fixture
def nuclei(tmp_path):
    """Two images a split: three discs that touch and one apart, in fluorescence and in bright field."""
    folder = tmp_path / 'nuclei'
    (folder / 'images').mkdir(parents=True)
    truth_HW = discs((32, 76), *ROW)
    for split in ('train', 'val'):
        images, annotations = [], []
        for number, (background, objects) in enumerate(((20, 120), (230, 90)), 1):
            name = f'{split}{number}.png'
            grey_HW = np.where(truth_HW > 0, objects, background).astype(np.uint8)
            cv2.imwrite(str(folder / 'images' / name), grey_HW)
            images.append(dict(id=number, file_name=name, height=32, width=76))
            for label in (1, 2, 3, 4):
                rle = coco_mask.encode(np.asfortranarray(truth_HW == label).astype(np.uint8))
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=number,
                        category_id=1,
                        iscrowd=0,
                        area=int(coco_mask.area(rle)),
                        bbox=coco_mask.toBbox(rle).tolist(),
                        segmentation=dict(rle, counts=rle['counts'].decode()),
                    )
                )
        categories = [dict(id=1, name='nucleus')]
        text = json.dumps(dict(images=images, annotations=annotations, categories=categories))
        (folder / f'{split}.json').write_text(text)
    return folder, truth_HW


def test_table(nuclei, tmp_path, capsys):
    folder, truth_HW = nuclei
    labels = tmp_path / 'labels'
    labels.mkdir()
    for number in (1, 2):
        # The disc apart is missing in one image; labels with a gap.
        labels_HW = np.where(truth_HW == 4, 0, truth_HW) if number == 1 else truth_HW * 2
        np.savez(labels / f'val{number}.npz', labels=labels_HW, scores=np.full(8, 0.5))
    (labels / 'summary.json').write_text('{"name": "other", "seconds": 2.5, "minutes": 7.2}')
    nuclei_baselines.main(['--data', str(folder), '--labels', str(labels), '--out', str(tmp_path)])
    rows = {row['method']: row for row in json.loads((tmp_path / 'nuclei_baselines.json').read_text())['rows']}
    watershed, joined, other = (rows[name] for name in ('Otsu, watershed', 'true foreground, components', 'other'))
    assert watershed['all_images'] == dict(accuracy_50=1.0, accuracy_75=1.0, count_error=0.0)
    assert joined['all_images'] == dict(accuracy_50=1 / 5, accuracy_75=1 / 5, count_error=2.0)
    assert other['all_images'] == dict(accuracy_50=7 / 8, accuracy_75=7 / 8, count_error=0.5)
    assert other['fluorescence'] == dict(accuracy_50=3 / 4, accuracy_75=3 / 4, count_error=1.0)
    assert other['average_precision'] == pytest.approx(7 / 8, abs=0.01)
    assert (other['seconds'], other['note']) == (2.5, '7 CPU minutes of training')
    printed = capsys.readouterr().out
    assert '2 images, 1 of fluorescence, 8 nuclei' in printed
    assert '| other | 0.875 | 0.875 | 0.5 | 0.750 |' in printed


def test_folder_without_data(tmp_path):
    with pytest.raises(SystemExit, match='expected a folder with val.json'):
        nuclei_baselines.main(['--data', str(tmp_path)])
