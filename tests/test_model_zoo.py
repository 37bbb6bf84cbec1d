"""configs/README.md and configs/metafile.yml: every config, with the same numbers, those of the code and of other pages."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from mmengine.config import Config
from mmseg_configs import REASON, builds_on_mmsegs
from zoo import ZOO

from mmseg_instancenet.analysis.flops import count_flops
from mmseg_instancenet.analysis.model_costs import load_model

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
METAFILE = yaml.safe_load((CONFIGS / 'metafile.yml').read_text())
MODELS = {model['Name']: model for model in METAFILE['Models']}
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))
SMALL = [name for name in NAMES if re.search('digits|unet|lite0', name) and 'proposals' not in name]


class ZooRow(NamedTuple):
    """The cells of a row of configs/README.md, without the link to the config."""

    network: str
    parameters: str
    gflops: str
    result: str
    trained_on: str
    network_ms: str
    result_ms: str
    memory: str
    training: str


def rows() -> dict[str, ZooRow]:
    found = re.findall(
        r'^\| \[([\w.-]+)\]\(([\w.-]+)\.py\) \|(.*)\|$', (CONFIGS / 'README.md').read_text(), re.MULTILINE
    )
    assert all(name == file for name, file, _ in found)
    assert len({name for name, _, _ in found}) == len(found)
    return {name: ZooRow(*(cell.strip() for cell in cells.split('|'))) for name, _, cells in found}


ROWS = rows()


def test_every_config_has_a_row_and_an_entry():
    assert sorted(ROWS) == NAMES
    assert sorted(MODELS) == NAMES and len(MODELS) == len(METAFILE['Models'])


@pytest.mark.parametrize('name', sorted(ROWS))
def test_row_and_entry_agree(name):
    row, model = ROWS[name], MODELS[name]
    metadata = model['Metadata']
    assert row.network == ', '.join(metadata['Architecture'])
    assert row.parameters == f'{metadata["Parameters"] / 1e6:.2f}'
    gflops = metadata['FLOPs'] / 1e9
    assert row.gflops == (f'{gflops:.3g}' if gflops < 1000 else f'{gflops:.0f}')
    times = [str(entry['value']) for entry in metadata.get('inference time (ms/im)', [])]
    assert [row.result_ms] == (times or ['not measured'])
    assert (row.network_ms == 'not measured') == (not times)
    memory = metadata.get('Training Memory (GB)')
    assert (row.training == 'not measured') == (memory is None)
    assert memory is None or memory == pytest.approx(int(row.training) / 1024, abs=0.006)
    assert row.trained_on == metadata.get('Training Size', '')
    values = [
        f'.{round(value * (10 if "AP" in metric or "AR" in metric else 1000)):03}'
        for result in model.get('Results', [])
        for metric, value in result['Metrics'].items()
    ]
    assert re.findall(r' (\.\d{3})', row.result) == values
    assert (row.result == 'not trained') == (not values)


@pytest.mark.parametrize('name', [name for name, row in ROWS.items() if row.result != 'not trained'])
def test_results_are_small_and_stand_in_the_page_that_they_link(name):
    row = ROWS[name]
    assert row.trained_on.endswith(' (small)')
    ((text, page, anchor),) = re.findall(r'\[(.*?)\]\(\.\./([\w/.]+)#([\w-]+)\)', row.result)
    values, content = re.findall(r'\.\d{3}', text), (ROOT / page).read_text()
    sections = re.split(r'^(?=#+ )', content, flags=re.MULTILINE)
    titles = [
        re.sub(r'[^\w\- ]', '', part.partition('\n')[0].lstrip('# ').lower()).replace(' ', '-') for part in sections
    ]
    section = sections[titles.index(anchor)]
    assert values and [value for value in values if value not in section] == []


@pytest.mark.parametrize('name', SMALL)
def test_parameters_and_flops_are_those_of_the_network(name):
    path = CONFIGS / f'{name}.py'
    if builds_on_mmsegs(path) and not ZOO.is_dir():
        pytest.skip(REASON)
    config, metadata = Config.fromfile(path), MODELS[name]['Metadata']
    if config.model.backbone.type == 'TIMMBackbone':
        pytest.importorskip('timm', reason="timm is not installed: pip install -e '.[pretrained]'")
    model = load_model(config, 'cpu')
    model.auxiliary_head = None
    assert sum(parameter.numel() for parameter in model.parameters()) == metadata['Parameters']
    if name in ('instancenet_digits', 'instancenet_digits_segformer', 'recurrent-embedding_digits'):
        assert count_flops(model, torch.zeros(1, 3, 64, 64)).flops == metadata['FLOPs']


def test_the_model_index_imports_the_metafile():
    assert yaml.safe_load((ROOT / 'model-index.yml').read_text()) == {'Import': ['configs/metafile.yml']}


def test_fields_are_those_of_model_index():
    """Fields that its documentation lists, and types; names of fields are read without regard to case."""
    assert set(METAFILE) == {'Collections', 'Models'}
    collections = {}
    for collection in METAFILE['Collections']:
        assert set(collection) <= {'Name', 'Metadata', 'Paper', 'README', 'Frameworks'}
        assert set(collection['Paper']) <= {'Title', 'URL'}
        assert (CONFIGS / collection['README']).is_file()
        collections[collection['Name']] = collection
    for model in METAFILE['Models']:
        assert set(model) <= {'Name', 'In Collection', 'Config', 'Metadata', 'Results'}
        assert model['In Collection'] in collections
        assert (ROOT / model['Config']).is_file() and Path(model['Config']).stem == model['Name']
        metadata = model['Metadata']
        assert {'Architecture', 'Training Data', 'Parameters', 'FLOPs'} <= set(metadata)
        assert type(metadata['Parameters']) is int and type(metadata['FLOPs']) is int
        for result in model.get('Results', []):
            assert set(result) == {'Task', 'Dataset', 'Metrics'}
            assert all(isinstance(value, float) for value in result['Metrics'].values())


def test_model_index_finds_no_error():
    load_model_index = pytest.importorskip(
        'modelindex.load_model_index', reason='it comes with MIM, which is not installed'
    )
    index = load_model_index.load(str(ROOT / 'model-index.yml'))
    assert index.check(silent=True) == []
    assert sorted(model.name for model in index.models) == NAMES
