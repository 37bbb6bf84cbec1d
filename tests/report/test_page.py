"""The page of a report: well-formed, with a text for each image, bounded in size, and readable in a browser."""

import base64
import io
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from report_page import ReportPage

from mmseg_instancenet.evaluation.metrics.mask_metric import ImageMasks
from mmseg_instancenet.report import measure, render_page
from mmseg_instancenet.report.drawings import CROP_PIXELS, CROPS, IMAGE_PIXELS, IMAGES, ReportImage, png_uri
from mmseg_instancenet.report.figures import draw_counts, draw_score_curve, svg_uri
from mmseg_instancenet.report.measures import ImageMatches, Measures, ScoreCurve

NONE = np.zeros(0, int)
CLASSES = ('cat', '<dog> & "mouse"')


def square(top, left, side, shape):
    mask = np.zeros(shape, np.uint8, order='F')
    mask[top : top + side, left : left + side] = 1
    return coco_mask.encode(mask)


def write_image(folder, name, objects, found, shape=(48, 64)):
    """An image of noise with true squares (top, left, side, class) and detected ones (top, left, side, class, score)."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    masks = ImageMasks(
        [square(*place[:3], shape) for place in found],
        np.array([place[4] for place in found]),
        np.array([place[3] for place in found], int),
        [square(*place[:3], shape) for place in objects],
        np.array([place[3] for place in objects], int),
        [],
        NONE,
    )
    return ReportImage(str(path), shape, masks)


def render(images, **facts):
    measures = measure([image.masks for image in images], CLASSES) if images else None
    return ReportPage(render_page('A test of <cats> & dogs', facts, images, measures))


@pytest.fixture
def images(tmp_path):
    """A perfect image, a merge and a split, a missed object and an invented one, and an image of nothing."""
    return [
        write_image(tmp_path, 'a/1.png', [(4, 4, 10, 0), (4, 30, 8, 1)], [(4, 4, 10, 0, 0.95), (4, 30, 8, 1, 0.85)]),
        write_image(
            tmp_path,
            'a/2.png',
            [(4, 4, 6, 0), (4, 10, 6, 0), (20, 30, 20, 1)],
            [(2, 4, 12, 0, 0.75), (20, 30, 14, 1, 0.65), (34, 44, 6, 1, 0.55)],
        ),
        write_image(tmp_path, 'b/1.png', [(4, 4, 10, 0)], [(30, 40, 10, 0, 0.35)]),
        write_image(tmp_path, 'b/2.png', [], []),
    ]


def test_values(images):
    page = render(images, config='a<b.py')
    assert page.facts['config'] == 'a<b.py'
    assert page.root.find('.//h1').text == page.root.find('.//title').text == 'A test of <cats> & dogs'
    # Image 1 has two right detections. In image 2 none has an IoU of 1/2: 36 / 144, 196 / 400; image 3 has none.
    assert page.row('Measures by score cut', '0.000') == {
        'score cut': '0.000', 'detections': '6',
        'TP / (TP + FP + FN)': '0.200', 'precision': '0.333', 'recall': '0.333', 'F1': '0.333',
    }  # fmt: skip
    assert page.row('Measures by score cut', '0.850 (highest)')['TP / (TP + FP + FN)'] == f'{2 / 6:.3f}'
    # Tenths that change nothing have no row.
    assert [row[:2] for row in page.tables['Measures by score cut'][1:]] == [
        ['0.000', '6'], ['0.400', '5'], ['0.600', '4'], ['0.700', '3'], ['0.850 (highest)', '2'], ['0.900', '1'],
    ]  # fmt: skip
    dog = page.row('Average precision by class and size', CLASSES[1])
    assert (dog['objects'], dog['detections'], dog['AP'], dog['medium'], dog['count error']) == (
        '2',
        '3',
        '0.505',
        '–',
        '0.25',
    )
    assert (
        page.row('Average precision of masks', 'all')['AP50'] == f'{(51 / 101 + 26 / 101) / 2:.3f}'
    )  # recalls 1/2 and 1/4
    assert page.tables['Count errors'][1:] == [
        ['predicted minus true count, mean over the images', '0.00'],
        ['absolute difference, mean over the images', '0.00'],
        ['largest absolute difference of an image', '0'],
        ['images with the right count', '4 of 4'],
    ]
    assert page.row('Detections by score', '0.6 to 0.7') == {
        'score': '0.6 to 0.7', 'detections': '1', 'mean score': '0.650', 'mean IoU': '0.490', 'share that is right': '0.000',
    }  # fmt: skip
    assert page.tables['Number of errors'][1:] == [
        ['merges', '1'], ['splits', '1'], ['classes', '0'], ['invented', '1'], ['missed', '1'],
    ]  # fmt: skip
    assert page.captions('Best') == [
        'a/1.png: TP / (TP + FP + FN) 1.000; objects: 2, detections: 2, right: 2, not found: 0',
        'b/1.png: TP / (TP + FP + FN) 0.000; objects: 1, detections: 1, right: 0, not found: 1',
    ]
    assert page.captions('Worst') == [
        'a/2.png: TP / (TP + FP + FN) 0.000; objects: 3, detections: 3, right: 0, not found: 3'
    ]
    assert page.captions('Merges') == ['a/2.png: 2 objects in one detection']
    assert page.captions('Splits') == ['a/2.png: 2 pieces, IoU of the best 0.49']
    assert page.captions('Missed objects') == ['b/1.png: 100 pixels']
    assert page.captions('Invented objects') == ['b/1.png: score 0.35']


def test_accessible_and_self_contained(images):
    page = render(images)
    assert len(page.images) == 3 + 3 + 4
    alts = [image.get('alt') for image in page.images]
    assert len(set(alts)) == len(alts) and all(len(alt) > 40 for alt in alts)
    for image in page.images:
        form, content = re.fullmatch(r'data:image/(png|svg\+xml);base64,(.*)', image.get('src')).groups()
        content = base64.b64decode(content, validate=True)
        if form == 'png':
            assert np.array(Image.open(io.BytesIO(content)).convert('RGB')).std() > 10
        else:
            assert b'<svg' in content
    assert not list(page.root.iter('script')) and not list(page.root.iter('link'))
    assert 'http' not in re.sub(r'base64,[^"]*', '', page.text)
    assert {link.get('href') for link in page.root.iter('a')} == {
        f'#{part.get("id")}' for part in page.root.iter('section')
    }
    for table in page.root.iter('table'):
        assert {head.get('scope') for head in table.iter('th')} == {'row', 'col'}
    levels = [int(element.tag[1]) for element in page.root.iter() if re.fullmatch(r'h\d', element.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= level + 1 for level, later in zip(levels, levels[1:], strict=False))


@pytest.mark.parametrize(
    ('objects', 'found', 'drawings'),
    [([], [], 1), ([(4, 4, 10, 0)], [], 3), ([], [(4, 4, 10, 0, 0.5)], 5)],
    ids=['nothing', 'no detection', 'no object'],
)
def test_empty_cases(tmp_path, objects, found, drawings):
    page = render([write_image(tmp_path, '1.png', objects, found)])
    assert len(page.images) == drawings
    ap = page.row('Average precision of masks', 'all')['AP']
    assert ap == ('0.000' if objects else '–')
    assert page.text.count('There is no detection.') == (0 if found else 2)
    assert ('No image has an object or a detection.' in page.text) == (not objects and not found)
    if found:
        assert page.row('Measures by score cut', '0.500 (highest)')['recall'] == '–'


def test_no_image():
    page = render([], config='a.py')
    assert page.facts == {'config': 'a.py'} and page.root.find('.//main/p').text == 'No image was evaluated.'


def test_drawings_are_bounded_in_number(tmp_path):
    """Twelve images with errors of each kind."""
    merge = [(2, 2, 6, 0), (2, 8, 6, 0)], [(0, 2, 12, 0, 0.9)]
    split = [(20, 30, 20, 0)], [(20, 30, 14, 0, 0.8), (34, 44, 6, 0, 0.7)]
    wrong = [(2, 40, 8, 0)], [(34, 2, 10, 0, 0.6)]
    objects, found = (sum(parts, []) for parts in zip(merge, split, wrong, strict=True))
    page = render([write_image(tmp_path, f'{number}.png', objects, found) for number in range(12)])
    assert page.tables['Number of errors'][1:] == [
        ['merges', '12'], ['splits', '12'], ['classes', '0'], ['invented', '12'], ['missed', '12'],
    ]  # fmt: skip
    assert len(page.images) == 3 + 2 * IMAGES + 4 * CROPS


def test_drawings_are_bounded_in_size():
    """Noise is what PNG compresses least."""
    rng = np.random.default_rng(0)
    largest = {}
    for pixels, shape in ((IMAGE_PIXELS, (540, 1000)), (CROP_PIXELS, (184, 900))):
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        uri = png_uri(image, pixels)
        width, height = Image.open(io.BytesIO(base64.b64decode(uri.split(',')[1]))).size
        assert 0.98 * pixels < width * height <= pixels and height / width == pytest.approx(
            shape[0] / shape[1], rel=0.01
        )
        largest[pixels] = len(uri)
    assert 2 * IMAGES * largest[IMAGE_PIXELS] + 4 * CROPS * largest[CROP_PIXELS] < 8.5e6


def test_plots_of_five_thousand_images_are_small():
    rng = np.random.default_rng(0)
    score_K, hit_K = rng.random(200_000), rng.random(200_000) < 0.5
    curve = ScoreCurve(score_K, hit_K, 300_000)
    matches = [
        ImageMatches(score_K[:found], np.zeros(found, int), hit_K[:found], score_K[:found], np.zeros(true, int))
        for true, found in rng.integers(0, 500, (5000, 2))
    ]
    measures = Measures(matches, (), (), [], curve, [], 0.0, {})
    size = len(svg_uri(draw_score_curve(curve))) + len(svg_uri(draw_counts(measures)))
    assert size < 1e6  # with the drawings less than 10 MB


@pytest.mark.parametrize('shape', [(1, 400), (400, 1), (40, 3000)])
def test_very_long_images(tmp_path, shape):
    """Their drawings stay small."""
    page = render([write_image(tmp_path, '1.png', [(0, 0, 1, 0)], [], shape)])
    for image in page.images[1:]:
        assert len(image.get('src')) < 4 / 3 * 1.02 * IMAGE_PIXELS + 2000
    assert len(page.images) == 3


@pytest.mark.parametrize('width', [500, 1200])
def test_in_a_browser(images, tmp_path, width):
    """All images are drawn, and the page is no wider than the window. The report itself has no script; this copy has one.

    Chromium has no window below 500 pixels.
    """
    browser = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
    if browser is None:
        pytest.skip('no Chromium on this machine: apt-get install chromium, or a Chrome in PATH')
    page = render(images)
    script = """<script>onload = () => document.title = [
        [...document.images].filter(image => image.naturalWidth > 0).length, innerWidth, document.documentElement.scrollWidth
    ].join(' ')</script></body>"""
    copy = tmp_path / 'copy.html'
    copy.write_text(page.text.replace('</body>', script), encoding='utf-8')
    # Chromium refuses its sandbox to root, as in a container.
    options = [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        f'--user-data-dir={tmp_path}/profile',
        f'--window-size={width},900',
    ]
    found = subprocess.run(
        [browser, *options, '--dump-dom', copy.as_uri()], capture_output=True, text=True, timeout=120
    )
    title = re.search('<title>(.*?)</title>', found.stdout)
    assert title, found.stderr
    drawn, inner, content = map(int, title[1].split())
    assert drawn == len(page.images) and inner == width and content <= inner
