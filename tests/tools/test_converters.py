"""tools/convert/label_images_to_coco.py, labelme_to_coco.py and via_to_coco.py: masks against drawings, faults, --dry-run."""

import base64
import io
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from image_bombs import png_bomb
from label_folders import HEIGHT, WIDTH, folder_of, labels, write, write_image
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_instancenet.datasets.annotations import Decision, check_file, coco_of

FOLDER = Path(__file__).parents[2] / 'tools/convert'


@pytest.fixture
def convert(monkeypatch, capsys):
    """Runs a converter in this process; returns its exit status and what it prints."""

    def run(name: str, *arguments) -> tuple[int, str]:
        tool = FOLDER / f'{name}_to_coco.py'
        monkeypatch.setattr(sys, 'argv', [str(tool), *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(tool), run_name='__main__')
        except SystemExit as end:
            status = 1
            print(end.code)
        return status, capsys.readouterr().out

    return run


def objects_of(path: Path) -> dict[str, list[tuple[str, int, np.ndarray]]]:
    """(class, iscrowd, mask) of the objects of each image, by its name; the json has nothing to mend."""
    content, findings = check_file(path)
    assert findings.of(*Decision) == []
    coco = coco_of(content)
    name_of = {category['id']: category['name'] for category in content['categories']}
    return {
        image['file_name']: [
            (name_of[one['category_id']], one['iscrowd'], coco.annToMask(one)) for one in coco.imgToAnns[image['id']]
        ]
        for image in content['images']
    }


def assert_objects(found: list, expected: list) -> None:
    assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
    for (*_, mask), (name, _, other) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mask, other, err_msg=name)


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def disc(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    """Pixels whose centres lie within an ellipse."""
    row, column = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return (((column - x) / radius_x) ** 2 + ((row - y) / radius_y) ** 2 <= 1).astype(np.uint8)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


# Label images


def test_label_images(tmp_path, convert):
    folder_of(tmp_path, 2)
    unlabelled = labels(1)
    unlabelled[:, 36:] = 255
    write(tmp_path / 'masks/1.png', unlabelled)
    out = tmp_path / 'all/train.json'
    arguments = ['label_images', tmp_path, '--ignore-label', 255, '--class-name', 'cell', '--out', out]
    status, printed = convert(*arguments, '--dry-run')
    assert (status, out.exists(), out.parent.exists()) == (0, False, False)
    assert f'{out}: 2 images, 7 annotations\n  cell: 6\n  void: 1\n--dry-run: nothing is written' in printed
    assert convert(*arguments)[0] == 0
    found = objects_of(out)
    assert list(found) == ['../images/0.png', '../images/1.png']
    for seed, (name, values) in enumerate(zip(found, (labels(0), unlabelled), strict=True)):
        expected = [('cell', 0, (values == label).astype(np.uint8)) for label in (3, 7, 200)]
        assert_objects(found[name], expected + [('void', 1, (values == 255).astype(np.uint8))] * seed)


def test_label_images_in_class_folders(tmp_path, convert):
    write_image(tmp_path / 'images/0.png')
    write(tmp_path / 'masks/stem/0.png', labels(0))
    write(tmp_path / 'masks/leaf/0.png', labels(1))
    assert convert('label_images', tmp_path, '--classes-from', 'folders', '--out', tmp_path / 'all.json')[0] == 0
    expected = [
        (name, 0, (labels(seed) == label).astype(np.uint8))
        for name, seed in (('leaf', 1), ('stem', 0))
        for label in (3, 7, 200)
    ]
    assert_objects(objects_of(tmp_path / 'all.json')['images/0.png'], expected)


def test_all_faults_of_label_images(tmp_path, convert):
    folder_of(tmp_path, 1)
    write_image(tmp_path / 'images/bare.png')
    write_image(tmp_path / 'images/float.png')
    write(tmp_path / 'masks/float.tif', labels(0).astype(np.float32))
    status, printed = convert('label_images', tmp_path, '--out', tmp_path / 'all.json')
    assert (status, (tmp_path / 'all.json').exists()) == (1, False)
    assert '1 x image without a mask file' in printed and '1 x mask in floating point' in printed
    status, printed = convert('label_images', tmp_path, '--images', 'none', '--out', tmp_path / 'all.json')
    assert status == 1 and 'folder not found' in printed


# LabelMe


def labelme(folder: Path, name: str, *shapes: dict, **changes) -> None:
    write_image(folder / f'{name}.png')
    content = {'version': '5.4.1', 'imagePath': f'{name}.png', 'imageHeight': HEIGHT, 'imageWidth': WIDTH, **changes}
    (folder / f'{name}.json').write_text(json.dumps({**content, 'shapes': list(shapes)}))


def shape(kind: str, points: list, label: str = 'leaf', group: int | None = None, **more) -> dict:
    return {'shape_type': kind, 'points': points, 'label': label, 'group_id': group, **more}


def square(left: int, top: int, side: int) -> list:
    return [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]


def test_labelme(tmp_path, convert):
    drawn = np.zeros((5, 6), bool)
    drawn[1:4, 2:] = True
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, 'PNG')
    encoded = base64.b64encode(buffer.getvalue()).decode()
    mask = {'label': 'stem', 'mask': encoded}
    labelme(
        tmp_path,
        'a',
        shape('polygon', square(2, 3, 6)),
        shape('rectangle', [[20, 12], [14, 4]], 'stem'),
        shape('polygon', square(2, 20, 4), group=1),
        shape('polygon', square(10, 20, 4), group=1),
        shape('mask', [[30, 8], [35, 12]], **mask),
        shape('polygon', square(30, 20, 4), 'stem', group=7),
        shape('mask', [[20, 20], [25, 24]], group=7, **mask),
        shape('rectangle', [[0, 29], [9, 32]], 'void'),
    )
    labelme(tmp_path, 'b', shape('circle', [[20.5, 15.5], [28.5, 15.5]]), imageHeight=None, imageWidth=None)
    (tmp_path / 'other.json').write_text('[]')
    out = tmp_path / 'train.json'
    assert convert('labelme', tmp_path, '--out', out, '--dry-run')[0] == 0 and not out.exists()
    status, printed = convert('labelme', tmp_path, '--out', out)
    assert status == 0 and f'{out}: 2 images, 7 annotations\n  leaf: 3\n  stem: 3\n  void: 1\n' in printed
    found = objects_of(out)
    placed, second = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    placed[8:13, 30:36] = drawn
    second[20:25, 20:26] = drawn
    assert_objects(
        found['a.png'],
        [
            ('leaf', 0, rectangle(2, 3, 8, 9)),
            ('stem', 0, rectangle(14, 4, 20, 12)),
            ('leaf', 0, rectangle(2, 20, 6, 24) | rectangle(10, 20, 14, 24)),
            ('stem', 0, placed),
            ('stem', 0, rectangle(30, 20, 34, 24) | second),
            ('void', 1, rectangle(0, 29, 9, 32)),
        ],
    )
    assert overlap(found['b.png'][0][2], disc(20.5, 15.5, 8, 8)) > 0.95


def test_a_second_start_passes_over_the_json_that_it_wrote(tmp_path, convert):
    labelme(tmp_path, 'a', shape('polygon', square(2, 3, 6)))
    for _ in range(2):
        assert convert('labelme', tmp_path, '--out', tmp_path / 'train.json')[0] == 0


def test_all_faults_of_labelme(tmp_path, convert):
    labelme(tmp_path, 'a', shape('line', [[1, 1], [5, 5]]), shape('polygon', [[1, 1], [5, 5]]))
    labelme(tmp_path, 'b', imagePath='gone.png')
    labelme(tmp_path, 'c', imageHeight=99)
    labelme(tmp_path, 'd')
    (tmp_path / 'd.png').write_text('no image')
    (tmp_path / 'e.json').write_text('{')
    status, printed = convert('labelme', tmp_path, '--out', tmp_path / 'train.json')
    assert (status, (tmp_path / 'train.json').exists()) == (1, False)
    for kind in (
        'shape without an area: line',
        'polygon of fewer than 3 points',
        'image that does not exist',
        'image of another size than in its json',
        'image that cannot be read',
        'file that is no json',
    ):
        assert printed.count(f'1 x {kind}') == 1


def test_what_a_training_refuses_is_not_written(tmp_path, convert):
    labelme(tmp_path, 'a', shape('polygon', square(2, 3, 90)))
    status, printed = convert('labelme', tmp_path, '--out', tmp_path / 'train.json')
    assert (status, (tmp_path / 'train.json').exists()) == (1, False)
    assert '1 x polygon more than 10 pixels outside the image' in printed


@pytest.mark.parametrize(
    'wrong',
    [
        shape('polygon', [1, 2, 3]),
        shape('polygon', [[1, 1], [5, 5], None]),
        shape('circle', [['a', 1], [5, 5]]),
        shape('mask', [[-3, 1], [5, 5]], mask=base64.b64encode(png_bomb(3, 3)).decode()),
        shape('mask', [[1, 1], [5, 5]], mask='no image'),
        shape('mask', [[1, 1], [5, 5]], mask=base64.b64encode(png_bomb(60_000, 60_000)).decode()),
        7,
    ],
)
def test_shapes_of_labelme_with_other_values_are_named(tmp_path, convert, wrong):
    labelme(tmp_path, 'a', wrong)
    labelme(tmp_path, 'b', shape('polygon', square(2, 3, 6)))
    status, printed = convert('labelme', tmp_path, '--out', tmp_path / 'train.json')
    assert (status, (tmp_path / 'train.json').exists()) == (1, False)
    assert '1 x shapes in another form than LabelMe writes' in printed and 'a.json: ' in printed


@pytest.mark.parametrize('content', ['{', '[' * 10**5 + ']' * 10**5])
def test_files_that_python_does_not_read_as_json(tmp_path, convert, content):
    for name in ('labelme', 'via'):
        (tmp_path / 'deep.json').write_text(content)
        status, printed = convert(
            name, tmp_path / ('deep.json' if name == 'via' else ''), '--out', tmp_path / 'train.json'
        )
        assert status == 1 and 'deep.json: ' in printed


def test_a_folder_without_labelme(tmp_path, convert):
    status, printed = convert('labelme', tmp_path, '--out', tmp_path / 'train.json')
    assert status == 1 and 'no json of LabelMe' in printed


# VIA


def region(attributes: dict, **geometry) -> dict:
    return {'shape_attributes': geometry, 'region_attributes': attributes}


def via_square(left: int, top: int, side: int) -> dict:
    xs, ys = zip(*square(left, top, side), strict=True)
    return {'name': 'polygon', 'all_points_x': list(xs), 'all_points_y': list(ys)}


def via(folder: Path, *regions: dict, name: str = 'a.png', as_dict: bool = False) -> dict:
    write_image(folder / name)
    listed = {str(index): one for index, one in enumerate(regions)} if as_dict else list(regions)
    return {f'{name}123': {'filename': name, 'size': 123, 'regions': listed, 'file_attributes': {}}}


@pytest.mark.parametrize('form', ['project', 'export', 'version 1'])
def test_via(tmp_path, convert, form):
    regions = [
        region({'type': 'leaf'}, **via_square(2, 3, 6)),
        region({'type': 'stem '}, name='rect', x=14, y=4, width=6, height=8),
        region({'type': {'leaf': True, 'stem': False}}, name='circle', cx=20.5, cy=20.5, r=8),
        region({'type': 'leaf'}, name='ellipse', cx=10.5, cy=20.5, rx=4, ry=8, theta=np.pi / 2),
        region({'type': 'void'}, name='rect', x=30, y=0, width=10, height=5),
    ]
    entries = via(tmp_path, *regions, as_dict=form == 'version 1') | via(tmp_path, name='b.png')
    content = {'_via_settings': {}, '_via_img_metadata': entries} if form == 'project' else entries
    (tmp_path / 'via.json').write_text(json.dumps(content))
    out = tmp_path / 'train.json'
    assert convert('via', tmp_path / 'via.json', '--out', out, '--dry-run')[0] == 0 and not out.exists()
    assert convert('via', tmp_path / 'via.json', '--out', out)[0] == 0
    found = objects_of(out)
    assert found['b.png'] == []
    assert_objects(found['a.png'][:2], [('leaf', 0, rectangle(2, 3, 8, 9)), ('stem', 0, rectangle(14, 4, 20, 12))])
    assert_objects(found['a.png'][4:], [('void', 1, rectangle(30, 0, 40, 5))])
    assert overlap(found['a.png'][2][2], disc(20.5, 20.5, 8, 8)) > 0.95
    assert overlap(found['a.png'][3][2], disc(10.5, 20.5, 8, 4)) > 0.92


def test_via_with_several_attributes(tmp_path, convert):
    entries = via(tmp_path / 'images', region({'type': 'leaf', 'note': 'x'}, **via_square(2, 3, 6)))
    (tmp_path / 'via.json').write_text(json.dumps(entries))
    arguments = ['via', tmp_path / 'via.json', '--images', tmp_path / 'images', '--out', tmp_path / 'train.json']
    status, printed = convert(*arguments)
    assert status == 1 and "expected one attribute of the regions, got ['note', 'type']" in printed
    assert convert(*arguments, '--class-attribute', 'type')[0] == 0
    assert [entry[0] for entry in objects_of(tmp_path / 'train.json')['images/a.png']] == ['leaf']


def test_via_without_attributes(tmp_path, convert):
    (tmp_path / 'via.json').write_text(json.dumps(via(tmp_path, region({}, **via_square(2, 3, 6)))))
    assert convert('via', tmp_path / 'via.json', '--out', tmp_path / 'train.json')[0] == 0
    assert_objects(objects_of(tmp_path / 'train.json')['a.png'], [('object', 0, rectangle(2, 3, 8, 9))])


def test_all_faults_of_via(tmp_path, convert):
    regions = [
        region({'type': 'leaf'}, name='point', cx=3, cy=3),
        region({'type': ''}, **via_square(2, 3, 6)),
        region({'type': 'leaf'}, name='rect', x=1, y='a'),
    ]
    entries = via(tmp_path, *regions) | via(tmp_path, name='gone.png')
    (tmp_path / 'gone.png').unlink()
    (tmp_path / 'via.json').write_text(json.dumps(entries))
    status, printed = convert('via', tmp_path / 'via.json', '--out', tmp_path / 'train.json')
    assert (status, (tmp_path / 'train.json').exists()) == (1, False)
    for kind in (
        'region in another form than VIA writes',
        'shape without an area: point',
        "region without the attribute 'type'",
        'image that does not exist',
    ):
        assert printed.count(f'1 x {kind}') == 1


@pytest.mark.parametrize('content', [[], {}, {'metadata': {'1_a': {'xy': [7, 1, 2]}}, 'project': {}}])
def test_a_json_that_is_none_of_via(tmp_path, convert, content):
    (tmp_path / 'via.json').write_text(json.dumps(content))
    status, printed = convert('via', tmp_path / 'via.json', '--out', tmp_path / 'train.json')
    assert status == 1 and 'expected a project of VIA 2' in printed


def test_the_masks_of_pycocotools_are_those_of_the_drawings():
    """The reference of this file: a polygon along the edges of pixels holds these pixels."""
    rle = coco_mask.frPyObjects([[2, 3, 8, 3, 8, 9, 2, 9]], HEIGHT, WIDTH)
    np.testing.assert_array_equal(coco_mask.decode(rle)[..., 0], rectangle(2, 3, 8, 9))
