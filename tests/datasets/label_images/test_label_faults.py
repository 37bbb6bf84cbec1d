"""Faults of label images: each is found alone, and all of one folder are found in one pass, before a training."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from label_folders import HEIGHT, WIDTH, folder_of, labels, write, write_image
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_instancenet.datasets.annotations import CHECKS, LABEL_IMAGES, Decision
from mmseg_instancenet.datasets.annotations.whole_check import SetReport, check_set


def image(root: Path, name: str) -> Path:
    """A new image; its mask is the path that is returned."""
    write_image(root / f'images/{name}.png')
    return root / f'masks/{name}.png'


def no_mask_file(root: Path) -> None:
    image(root, 'bare')


def mask_without_image(root: Path) -> None:
    write(root / 'masks/extra.png', labels(0))


def several_masks(root: Path) -> None:
    write(image(root, 'twice'), labels(0))
    write(root / 'masks/twice.tif', labels(0))


def images_of_one_name(root: Path) -> None:
    write(image(root, 'pair'), labels(0))
    write_image(root / 'images/pair.tif')


def unreadable_mask(root: Path) -> None:
    path = image(root, 'cut')
    write(path, np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:300])


def jpeg_mask(root: Path) -> None:
    Image.fromarray(labels(0)).save(image(root, 'lossy').with_suffix('.jpg'))


def mask_channels(root: Path) -> None:
    write(image(root, 'colours'), np.stack([labels(0)] * 3, axis=2))


def float_mask(root: Path) -> None:
    write(image(root, 'fractions').with_suffix('.tif'), labels(0).astype(np.float32))


def negative_label(root: Path) -> None:
    write(image(root, 'below').with_suffix('.tif'), np.where(labels(0) == 3, -2, 5).astype(np.int16))


def mask_of_other_size(root: Path) -> None:
    write(image(root, 'smaller'), labels(0)[:-1])


def unknown_size(root: Path) -> None:
    (root / 'images/text.png').write_text('no image')
    (root / 'masks/text').mkdir()


def binary_mask(root: Path) -> None:
    write(image(root, 'binary'), (labels(0) > 0).astype(np.uint8) * 255)


def one_label(root: Path) -> None:
    values = (labels(0) > 0).astype(np.uint8)
    assert values[28:, 30:].sum() == 0
    values[29:, 35:] = 1
    write(image(root, 'single'), values)


def values_of_one_object(root: Path) -> None:
    write(image(root, 'folder').with_suffix('') / '1.png', labels(0))


def empty_object_file(root: Path) -> None:
    write(image(root, 'nothing').with_suffix('') / '1.png', np.zeros((HEIGHT, WIDTH), np.uint8))


FAULTS: dict[str, Callable[[Path], None]] = {
    'no-mask-file': no_mask_file,
    'mask-without-image': mask_without_image,
    'several-masks': several_masks,
    'images-of-one-name': images_of_one_name,
    'unreadable-mask': unreadable_mask,
    'jpeg-mask': jpeg_mask,
    'mask-channels': mask_channels,
    'float-mask': float_mask,
    'negative-label': negative_label,
    'mask-of-other-size': mask_of_other_size,
    'unknown-size': unknown_size,
    'binary-mask': binary_mask,
    'one-label': one_label,
    'values-of-one-object': values_of_one_object,
    'empty-object-file': empty_object_file,
}
OF_CLASSES = {'mask-outside-class', 'label-without-class', 'row-without-label'}
CONSEQUENCES = {'empty-object-file': {'image-without-annotation': 1}}
"""Suspicious findings of :func:`check_set` that come with a fault."""


def check(root: Path, **settings) -> SetReport:
    fields = dict(type='LabelImageDataset', data_root=str(root), pipeline=[], lazy_init=True)
    return check_set(DATASETS.build({**fields, **settings}))


def counts(report: SetReport) -> dict[str, int]:
    names = {check: name for name, check in CHECKS.items()}
    return {names[finding.check]: finding.count for finding in report.findings.of(*Decision)}


def load(root: Path, **settings):
    fields = dict(type='LabelImageDataset', data_root=str(root), pipeline=[], serialize_data=False)
    return DATASETS.build({**fields, **settings})


def test_there_is_a_fault_for_each_check():
    assert set(FAULTS) | OF_CLASSES == {name for name, check in CHECKS.items() if check.where == LABEL_IMAGES}


def test_a_good_folder_has_no_findings(tmp_path):
    report = check(folder_of(tmp_path))
    assert (counts(report), report.stops) == ({}, False)
    assert report.statistics.table().splitlines()[1].split()[:3] == ['object', '9', '0']


@pytest.mark.parametrize('name', FAULTS)
def test_each_fault_is_found_alone(tmp_path, name):
    """By the check, by a training, and again from the json that is kept."""
    folder_of(tmp_path)
    FAULTS[name](tmp_path)
    refused = CHECKS[name].decision is Decision.REFUSED
    for _ in range(2):
        report = check(tmp_path)
        assert counts(report) == {name: 1, **CONSEQUENCES.get(name, {})}
        assert report.stops == refused
        if refused:
            with pytest.raises(ValueError, match=r'(?s)1 x .*; the first: .*strict=False .* leaves these images out'):
                load(tmp_path)
        else:
            with pytest.warns(UserWarning, match=CHECKS[name].found):
                load(tmp_path)


def test_all_faults_of_a_folder_are_found_in_one_pass(tmp_path):
    folder_of(tmp_path)
    for fault in FAULTS.values():
        fault(tmp_path)
    expected = dict.fromkeys(FAULTS, 1) | {'image-without-annotation': 1}
    assert counts(check(tmp_path)) == expected
    with pytest.raises(ValueError) as error:
        load(tmp_path)
    refused = [CHECKS[name] for name in FAULTS if CHECKS[name].decision is Decision.REFUSED]
    assert all(f'1 x {one.found}' in str(error.value) and one.action in str(error.value) for one in refused)


def test_refused_images_are_left_out_by_strict_false(tmp_path):
    folder_of(tmp_path)
    for fault in FAULTS.values():
        fault(tmp_path)
    with pytest.warns(UserWarning, match='left out:'):
        dataset = load(tmp_path, strict=False)
    names = [Path(dataset.get_data_info(index)['img_path']).name for index in range(len(dataset))]
    assert names == ['0.png', '1.png', '2.png', 'nothing.png', 'pair.png', 'single.png']
    assert not check(tmp_path, strict=False).stops


def test_a_folder_that_is_corrected(tmp_path):
    folder_of(tmp_path)
    FAULTS['no-mask-file'](tmp_path)
    with pytest.raises(ValueError, match='image without a mask file'):
        load(tmp_path)
    write(tmp_path / 'masks/bare.png', labels(0))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(load(tmp_path)) == 4


@pytest.mark.parametrize('pages', ['pages', 'stack'])
def test_masks_of_several_pages(tmp_path, pages):
    folder_of(tmp_path, 2)
    path = tmp_path / 'masks/0.tif'
    (tmp_path / 'masks/0.png').unlink()
    if pages == 'pages':
        first, second = (Image.fromarray(labels(seed)) for seed in range(2))
        first.save(path, save_all=True, append_images=[second], compression='tiff_lzw')
    else:
        write(path, np.stack([labels(0), labels(1)]))
    assert counts(check(tmp_path)) == {'mask-channels': 1}


@pytest.mark.parametrize('content', [b'', b'no image'])
def test_mask_files_that_are_no_images(tmp_path, content):
    folder_of(tmp_path, 2)
    (tmp_path / 'masks/1.png').write_bytes(content)
    report = check(tmp_path)
    assert counts(report) == {'unreadable-mask': 1}
    assert f'masks/1.png: {len(content)} bytes' in str(report)


def test_labels_in_two_pieces_and_one_object_numbered_255_are_allowed(tmp_path):
    values = labels(0)
    for name, one in (('two', (values == 7) * np.uint8(7)), ('whole', (values == 3) * np.uint8(255))):
        write(image(tmp_path, name), one.astype(np.uint8))
    assert counts(check(tmp_path)) == {}


def test_a_mask_of_another_size_names_both_sizes(tmp_path):
    folder_of(tmp_path)
    FAULTS['mask-of-other-size'](tmp_path)
    assert f'smaller.png is 31 x 40, {tmp_path}/images/smaller.png 32 x 40 (height x width)' in str(check(tmp_path))


# Classes


def test_masks_outside_of_class_folders(tmp_path):
    write(image(tmp_path, '0').parent / 'leaf/0.png', labels(0))
    write(tmp_path / 'masks/0.png', labels(0))
    report = check(tmp_path, classes_from='folders', metainfo={'classes': ('leaf',)})
    assert (counts(report), report.stops) == ({'mask-outside-class': 1}, True)


def test_labels_and_lines_that_do_not_fit(tmp_path):
    folder_of(tmp_path, 2)
    rows = ['0,3,leaf', '0,7,leaf', '0,200,leaf', '0,9,leaf', '1,3,leaf', '1,7,leaf', 'of another folder,1,leaf']
    (tmp_path / 'c.csv').write_text('\n'.join(['name,label,class', *rows]))
    report = check(tmp_path, classes_from='c.csv', metainfo={'classes': ('leaf',)})
    assert (counts(report), report.stops) == ({'label-without-class': 1, 'row-without-label': 1}, True)
    assert 'label 200 of ' in str(report) and 'label 9 of 0' in str(report)


def test_a_class_of_the_folder_that_the_config_lacks(tmp_path):
    write(image(tmp_path, '0').parent / 'leaf/0.png', labels(0))
    write(tmp_path / 'masks/stem/0.png', labels(1))
    report = check(tmp_path, classes_from='folders', metainfo={'classes': ('stem',)})
    assert (counts(report), report.stops) == ({'other-class': 1}, False)


def test_images_with_faults_of_their_own(tmp_path):
    """Those that ``tools/check_dataset.py`` finds in image files of any data set."""
    folder_of(tmp_path)
    path = tmp_path / 'images/1.png'
    path.write_bytes(path.read_bytes()[:-600])
    deep = tmp_path / 'images/2.png'
    Image.fromarray(np.full((HEIGHT, WIDTH), 3000, np.uint16)).save(deep)
    report = check(tmp_path, pipeline=[{'type': 'LoadImageFromFile'}])
    assert (counts(report), report.stops) == ({'unreadable-image': 1, 'depth': 1}, True)
    shutil.copy(tmp_path / 'images/0.png', path)
    kept = check(tmp_path, pipeline=[{'type': 'LoadImageFromFile', 'color_type': 3}])
    assert (counts(kept), kept.stops, kept.files.deep) == ({}, False, 1)
