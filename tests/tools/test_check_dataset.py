"""tools/check_dataset.py: which files it checks, what it prints and writes, its exit status; and its page in docs/."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from one_fault_sets import FAULTS, SmallSet

from mmseg_instancenet.datasets.annotations import Decision, check_file, decision_table

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / 'tools/check_dataset.py'
PAGE = (REPOSITORY / 'docs/annotations.md').read_text()


@pytest.fixture
def check(monkeypatch, capsys):
    """Runs the tool in this process; returns its exit status and its output."""

    def run(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
            status = 0
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code)
            status = end.code if isinstance(end.code, int) else 1
        return status, capsys.readouterr().out

    return run


def small_set(folder: Path, *faults: str) -> SmallSet:
    folder.mkdir()
    data = SmallSet(folder)
    for fault in faults:
        FAULTS[fault](data)
    data.write()
    return data


def config(folder: Path, **loaders: str) -> Path:
    """A config file whose data sets are those of the loaders, as Python text."""
    path = folder / 'config.py'
    lines = [f'_base_ = {str(REPOSITORY / "configs/instancenet_unet_dsb2018.py")!r}']
    for split in ('train', 'val', 'test'):
        dataset = loaders.get(split)
        lines.append(f'{split}_dataloader = dict(dataset=dict(_delete_=True, **{dataset}))' if dataset else '')
    path.write_text('\n'.join(lines))
    return path


def dataset_of(folder: Path, *steps: dict) -> str:
    fields = {
        'type': 'CocoInstanceDataset',
        'data_root': str(folder),
        'ann_file': 'instances.json',
        'data_prefix': {'img': 'images/'},
        'metainfo': {'classes': ('cat', 'dog')},
        'pipeline': [{'type': 'LoadImageFromFile'}, *steps],
    }
    return repr(fields)


@pytest.mark.parametrize(
    ('fault', 'status', 'lines'),
    [
        (None, 0, ['images: 2, annotations: 2, categories: 2']),
        ('area', 0, ['mended:', '1 x "area" absent, zero or no number; the first: annotation 3 of image 3.png: 0']),
        ('same-mask', 0, ['warned:', 'annotations 3 and 4 of image 3.png']),
        ('counts', 1, ['refused:', '[100, 20] covers 120 of 600 pixels']),
        ('other-size', 1, ['3.png is 10 x 15, in the json 20 x 30 (height x width)']),
        ('no-image', 1, ['no image in the list', 'images opened: 0']),
        (
            'duplicate-image-id',
            1,
            ['id 1 of 1.png and 3.png', 'images and objects are checked after this is corrected'],
        ),
    ],
)
def test_report_and_exit_status(tmp_path, check, fault, status, lines):
    folder = tmp_path / 'set'
    small_set(folder, *[fault] if fault else [])
    found, output = check(config(tmp_path, **dict.fromkeys(('train', 'val', 'test'), dataset_of(folder))))
    assert found == status
    assert all(line in output for line in lines), output
    verdict = 'stops' if status else 'does not stop'
    assert (
        output.count(f'A training on {folder}/instances.json {verdict} at these checks.') == 1
    )  # once, not three times


def test_each_split(tmp_path, check):
    for name in ('one', 'two', 'three'):
        small_set(tmp_path / name, *(['counts'] if name == 'three' else []))
    loaders = {
        split: dataset_of(tmp_path / name) for split, name in (('train', 'one'), ('val', 'two'), ('test', 'three'))
    }
    path = config(tmp_path, **loaders)
    for options, status, names in (
        ([], 1, ['one', 'two', 'three']),
        (['--split', 'train'], 0, ['one']),
        (['--split', 'val'], 0, ['two']),
        (['--split', 'test'], 1, ['three']),
    ):
        found, output = check(path, *options)
        checked = [name for name in ('one', 'two', 'three') if f'{tmp_path / name}/instances.json, images' in output]
        assert (found, checked) == (status, names)


@pytest.mark.parametrize(
    'wrapper',
    [
        "{{'type': 'ConcatDataset', 'datasets': [{one}, {two}]}}",
        "{{'type': 'ConcatDataset', 'datasets': [{{'type': 'RepeatDataset', 'times': 3, 'dataset': {one}}}, {two}]}}",
        "{{'type': 'mmdet.MultiImageMixDataset', 'dataset': {{'type': 'ConcatDataset', 'datasets': [{one}, {two}]}}, "
        "'pipeline': []}}",
    ],
    ids=['concat', 'repeat', 'mix'],
)
def test_data_sets_within_wrappers(tmp_path, check, wrapper):
    small_set(tmp_path / 'one')
    small_set(tmp_path / 'two', 'area')
    text = wrapper.format(one=dataset_of(tmp_path / 'one'), two=dataset_of(tmp_path / 'two'))
    status, output = check(config(tmp_path, train=text), '--split', 'train')
    assert status == 0
    assert [f'{tmp_path / name}/instances.json, images' in output for name in ('one', 'two')] == [True, True]


@pytest.mark.parametrize(
    ('inner', 'outer', 'sizes'),
    [
        ([], [], '20 x 30 enters the network at 20 x 30; map of the embedding 20 x 30'),
        ([{'type': 'ResizeLongerSide', 'length': 60}], [], 'at 40 x 60; map of the embedding 40 x 60'),
        ([{'type': 'ResizeLongerSide', 'length': 60}], [{'type': 'Resize', 'scale': (45, 45)}], 'at 45 x 45; map'),
    ],
)
def test_sizes_in_training(tmp_path, check, inner, outer, sizes):
    small_set(tmp_path / 'set')
    wrapped = {
        'type': 'mmdet.MultiImageMixDataset',
        'dataset': eval(dataset_of(tmp_path / 'set', *inner)),
        'pipeline': outer,
    }
    assert sizes in check(config(tmp_path, train=repr(wrapped)), '--split', 'train')[1]


@pytest.mark.parametrize(
    'name',
    [
        'recurrent-embedding_r50_bsds500',
        'recurrent-embedding_efficientnet-lite0_bsds500',
        'instancenet_deeplabv3plus_r50_cityscapes',
    ],
)
def test_configs_without_an_annotation_file(check, name):
    status, output = check(REPOSITORY / f'configs/{name}.py')
    assert status == 1
    assert (
        "Dataset: not checked: expected a CocoInstanceDataset, which has an annotation file in COCO's format" in output
    )
    assert 'nothing was checked' in output


def test_a_network_that_cannot_be_built_yet(tmp_path, check):
    small_set(tmp_path / 'set')
    path = config(tmp_path, train=dataset_of(tmp_path / 'set'))
    path.write_text(path.read_text() + "\nmodel = dict(decode_head=dict(in_channels='many'))\n")
    status, output = check(path, '--split', 'train')
    assert status == 0
    assert 'Nothing is measured on the map of the embedding: the network was not built: ' in output
    assert 'images: 2, annotations: 2' in output and 'on the map  apart there' not in output


def test_a_missing_annotation_file_beside_a_good_one(tmp_path, check):
    small_set(tmp_path / 'set')
    status, output = check(config(tmp_path, train=dataset_of(tmp_path / 'none'), val=dataset_of(tmp_path / 'set')))
    assert status == 1
    assert f'annotation file not found: {tmp_path}/none/instances.json' in output
    assert f'{tmp_path}/set/instances.json, images: 2' in output


@pytest.mark.parametrize(
    'faults',
    [
        ['area', 'box', 'no-crowd-flag'],
        ['annotation-id', 'over-the-border', 'flat-polygon'],
        ['counts', 'image-id', 'no-pixel'],
    ],
)
def test_the_normal_form_is_written(tmp_path, check, faults):
    data = small_set(tmp_path / 'set', *faults)
    data.object(score=np.nan)  # an entry that nobody reads, and no json
    data.write()
    clean = tmp_path / 'clean.json'
    status, output = check(config(tmp_path, train=dataset_of(tmp_path / 'set')), '--split', 'train', '--write', clean)
    left_out = len({'counts', 'no-pixel'} & set(faults))
    assert status == int('counts' in faults)
    count = len(data.content['annotations']) - left_out
    assert f'{clean}: {len(data.content["images"])} images, {count} annotations' in output
    json.loads(clean.read_text(), parse_constant=lambda name: pytest.fail(f'{name} is no json'))
    content, findings = check_file(clean)
    assert (findings.of(*Decision), len(content['annotations'])) == ([], count)


def test_what_cannot_be_written(tmp_path, check):
    for name, faults in (('one', []), ('two', ['duplicate-image-id'])):
        small_set(tmp_path / name, *faults)
    path = config(tmp_path, train=dataset_of(tmp_path / 'one'), val=dataset_of(tmp_path / 'two'))
    clean = tmp_path / 'clean.json'
    status, output = check(path, '--write', clean)
    assert (status, '--write: expected one annotation file' in output, clean.exists()) == (1, True, False)
    status, output = check(path, '--split', 'val', '--write', clean)
    assert (status, f'{clean} is not written' in output, clean.exists()) == (1, True, False)


def test_list_of_checks(check):
    assert check('--list-checks') == (0, decision_table() + '\n')
    assert check()[0] == 2


def test_the_page_has_the_table_of_checks():
    table = PAGE.split('<!-- tools/check_dataset.py --list-checks -->\n')[1].split('\n<!-- end of the table -->')[0]
    assert table == decision_table(), (
        'replace the table of docs/annotations.md by the output of tools/check_dataset.py --list-checks'
    )
