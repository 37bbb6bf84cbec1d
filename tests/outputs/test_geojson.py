"""GeoJSON, read back by shapely."""

import json

import numpy as np
import pytest
import shapely
from instance_results import ragged_masks, result_of

from mmseg_instancenet.outputs import write_geojson


def read(path) -> list[dict]:
    content = json.loads(path.read_text('utf-8'))
    assert list(content) == ['type', 'features'] and content['type'] == 'FeatureCollection'
    return content['features']


@pytest.mark.parametrize('seed', range(3))
def test_polygons_have_the_pixels_of_the_masks(tmp_path, seed):
    masks = ragged_masks(seed)
    write_geojson(result_of(masks), tmp_path / 'image.geojson')
    features = read(tmp_path / 'image.geojson')
    row, column = np.indices(masks.shape[1:])
    for feature, mask in zip(features, masks, strict=True):
        assert feature['type'] == 'Feature'
        polygon = shapely.from_geojson(json.dumps(feature['geometry']))
        assert polygon.is_valid and polygon.area == mask.sum() == feature['properties']['measurements']['area']
        np.testing.assert_array_equal(shapely.contains_xy(polygon, column + 0.5, row + 0.5), mask)
    kinds = {feature['geometry']['type'] for feature in features}
    assert kinds == {'Polygon', 'MultiPolygon'}  # of one piece, and of several


def test_properties_as_qupath_reads_them(tmp_path):
    """The keys and types that ``qupath.lib.io.QuPathTypeAdapters`` and ``GsonTools`` of QuPath 0.4 and newer read."""
    write_geojson(result_of(ragged_masks(seed=0)[:3], ['cat', 'dög']), tmp_path / 'image.geojson')
    properties = [feature['properties'] for feature in read(tmp_path / 'image.geojson')]
    assert [one['objectType'] for one in properties] == ['detection'] * 3
    assert [one['classification']['name'] for one in properties] == ['dög', 'cat', 'dög']
    colors = [one['classification']['color'] for one in properties]
    assert colors[0] == colors[2] != colors[1]
    assert all(isinstance(value, int) and 0 <= value <= 255 for color in colors for value in color)
    assert [len(color) for color in colors] == [3, 3, 3]
    assert [one['measurements']['label'] for one in properties] == [1, 2, 3]
    assert [one['measurements']['score'] for one in properties] == [0.9, 0.45, 0.3]


def test_no_instance(tmp_path):
    write_geojson(result_of(np.zeros((0, 5, 5), bool)), tmp_path / 'image.geojson')
    assert read(tmp_path / 'image.geojson') == []
