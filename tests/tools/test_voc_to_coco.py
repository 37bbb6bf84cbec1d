"""``tools/convert/voc_to_coco.py``: the split of each image, and the printed summary."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import savemat

TOOL = Path(__file__).parents[2] / 'tools' / 'convert' / 'voc_to_coco.py'


@pytest.fixture
def convert(monkeypatch):
    """Runs the command in this process."""

    def run(*arguments) -> None:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run


def square(label: int, void: bool) -> np.ndarray:
    values = np.zeros((12, 16), np.uint8)
    if void:
        values[2:8, 2:8] = 255
    values[3:7, 3:7] = label
    return values


def write_photo(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 16, 3), 90, np.uint8)).save(file)


@pytest.fixture
def devkit(tmp_path) -> Path:
    """VOC with void around its cows, SBD with horses without: a (train) and b (val) are in both, c and d in SBD alone."""
    voc, sbd = tmp_path / 'VOCdevkit' / 'VOC2012', tmp_path / 'benchmark_RELEASE' / 'dataset'
    for folder in ('SegmentationClass', 'SegmentationObject', 'ImageSets/Segmentation'):
        (voc / folder).mkdir(parents=True)
    (sbd / 'inst').mkdir(parents=True)
    for name in 'ab':
        Image.fromarray(square(10, True)).save(voc / 'SegmentationClass' / f'{name}.png')
        Image.fromarray(square(1, True)).save(voc / 'SegmentationObject' / f'{name}.png')
        write_photo(voc / 'JPEGImages' / f'{name}.jpg')
    for name in 'dcba':
        content = {'Segmentation': square(1, False), 'Categories': np.array([[13]], np.uint8)}
        savemat(sbd / 'inst' / f'{name}.mat', {'GTinst': content})
        write_photo(sbd / 'img' / f'{name}.jpg')
    (voc / 'ImageSets' / 'Segmentation' / 'train.txt').write_text('a\n')
    (voc / 'ImageSets' / 'Segmentation' / 'val.txt').write_text('b\n')
    return tmp_path


def content(file: Path) -> dict[str, list[tuple[int, int]]]:
    """For each image, by name, the category and area of its annotations."""
    loaded = json.loads(file.read_text())
    found = {}
    for image in loaded['images']:
        assert (file.parent / image['file_name']).is_file()
        found[Path(image['file_name']).stem] = [
            (entry['category_id'], int(coco_mask.area(entry['segmentation'])))
            for entry in loaded['annotations']
            if entry['image_id'] == image['id']
        ]
    return found


COW, HORSE = [(10, 16), (255, 36 - 16)], [(13, 16)]


def test_images_go_where_they_belong(devkit, convert, capsys):
    convert(
        devkit / 'VOCdevkit/VOC2012',
        '--sbd',
        devkit / 'benchmark_RELEASE/dataset',
        '--out',
        devkit / 'data' / 'voc2012',
    )
    found = {split: content(devkit / f'data/voc2012/{split}.json') for split in ('train', 'val', 'train_aug')}
    # b is VOC's val and no part of the training, though SBD has it; of a VOC's masks are taken.
    assert found == {'train': {'a': COW}, 'val': {'b': COW}, 'train_aug': {'a': COW, 'c': HORSE, 'd': HORSE}}
    output = capsys.readouterr().out
    assert 'train_aug.json: 3 images (of the 10582 of the complete set), 3 objects, 3.5 % void' in output
    assert 'is not there' not in output


def test_without_sbd(devkit, convert):
    convert(devkit / 'VOCdevkit/VOC2012', '--out', devkit / 'out')
    assert sorted(file.name for file in (devkit / 'out').iterdir()) == ['train.json', 'val.json']


def test_without_lists_all_are_train_and_it_says_so(devkit, convert, capsys):
    voc = devkit / 'VOCdevkit/VOC2012'
    for file in (voc / 'ImageSets' / 'Segmentation').iterdir():
        file.unlink()
    (voc / 'ImageSets' / 'Segmentation').rmdir()
    convert(voc, '--out', devkit / 'out')
    assert 'is not there: all 2 annotated images of VOC go into train, none into val' in capsys.readouterr().out
    assert content(devkit / 'out' / 'train.json') == {'a': COW, 'b': COW}
    assert not (devkit / 'out' / 'val.json').exists()


def test_folder_behind_a_link(devkit, convert, tmp_path):
    (devkit / 'elsewhere' / 'deep' / 'voc2012').mkdir(parents=True)
    (devkit / 'link').symlink_to(devkit / 'elsewhere' / 'deep' / 'voc2012')
    convert(devkit / 'VOCdevkit/VOC2012', '--out', devkit / 'link')
    assert content(devkit / 'link' / 'val.json') == {'b': COW}


def test_listed_image_without_annotation(devkit, convert):
    (devkit / 'VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt').write_text('b\nx\ny\n')
    with pytest.raises(SystemExit, match=r'val.txt names 2 images without .*SegmentationClass/\*.png; the first is x'):
        convert(devkit / 'VOCdevkit/VOC2012', '--out', devkit / 'out')


@pytest.mark.parametrize(
    ('train', 'val', 'found'),
    [('a\nb\n', '', [2, 0]), ('', 'a\n', [0, 1]), ('\n', ' \n\n', [0, 0])],
)
def test_an_empty_list_gives_a_json_without_images_and_a_line(devkit, convert, capsys, train, val, found):
    lists = devkit / 'VOCdevkit/VOC2012/ImageSets/Segmentation'
    (lists / 'train.txt').write_text(train)
    (lists / 'val.txt').write_text(val)
    convert(devkit / 'VOCdevkit/VOC2012', '--out', devkit / 'out')
    output = capsys.readouterr().out
    for split, count in zip(('train', 'val'), found, strict=True):
        loaded = json.loads((devkit / 'out' / f'{split}.json').read_text())
        assert (len(loaded['images']), len(loaded['annotations'])) == (count, 2 * count)  # a cow and its void
        assert len(loaded['categories']) == 21
        assert (f'{split}.json: no images, as the list of {split} is empty' in output) == (count == 0)


@pytest.mark.parametrize('names', [['train'], ['val'], ['train', 'val']])
def test_a_missing_list_is_named(devkit, convert, names):
    lists = devkit / 'VOCdevkit/VOC2012/ImageSets/Segmentation'
    for name in names:
        (lists / f'{name}.txt').unlink()
    with pytest.raises(SystemExit, match=rf'Segmentation/{names[0]}\.txt is missing: expected train\.txt and val\.txt'):
        convert(devkit / 'VOCdevkit/VOC2012', '--out', devkit / 'out')


@pytest.mark.parametrize('name', ['a', 'b'])
@pytest.mark.parametrize('label', [21, 25, 254])
def test_a_class_that_voc_lacks_names_its_image(devkit, convert, name, label):
    file = devkit / f'VOCdevkit/VOC2012/SegmentationClass/{name}.png'
    Image.fromarray(square(label, True)).save(file)
    with pytest.raises(SystemExit, match=rf'{name}\.png and .*{name}\.png: expected classes 0 \.\. 20 .*\[{label}\]'):
        convert(devkit / 'VOCdevkit/VOC2012', '--out', devkit / 'out')


def test_maps_of_two_sizes_name_their_image(devkit, convert):
    Image.fromarray(square(1, True)[:, :8]).save(devkit / 'VOCdevkit/VOC2012/SegmentationObject/b.png')
    with pytest.raises(SystemExit, match=r'SegmentationObject/b\.png: expected class and object maps of one shape'):
        convert(devkit / 'VOCdevkit/VOC2012', '--out', devkit / 'out')


def test_wrong_folder(devkit, convert):
    with pytest.raises(SystemExit, match='found no annotations; expected .* as in VOCdevkit/VOC2012'):
        convert(devkit / 'VOCdevkit', '--out', devkit / 'out')


def test_samples(test_data, convert, tmp_path, capsys):
    samples = test_data / 'voc_samples'
    convert(samples / 'voc_layout', '--sbd', samples / 'sbd_mat', '--out', tmp_path)
    output = capsys.readouterr().out
    assert 'train.json: 3 images' in output and '12 objects, 1.9 % void; of it 0 pixels' in output
    assert 'train_aug.json: 10 images' in output and '36 objects' in output
    assert len(content(tmp_path / 'train_aug.json')) == 10
