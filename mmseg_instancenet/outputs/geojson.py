"""Instances as GeoJSON (RFC 7946) in the form that QuPath 0.4 and newer import and export."""

import json
from collections.abc import Iterator
from pathlib import Path

from ..visualization.drawing import distinct_color
from .instance_result import InstanceResult


def geojson_features(result: InstanceResult) -> Iterator[dict]:
    """A Feature for each instance.

    - ``geometry``: a Polygon, or a MultiPolygon where the mask has several pieces, with its holes, in pixels of the image: (0, 0)
      is the upper left corner of the upper left pixel, as in QuPath. The outline follows the edges of the pixels
      (:func:`mask_outlines`): its area is that of the mask.
    - ``properties.objectType``: 'detection'. QuPath's annotations are regions that a person draws and edits, and become slow in
      thousands; its detections are objects that a program found, with measurements.
    - ``properties.classification``: ``name`` and ``color`` (red, green, blue; 0 to 255), by which QuPath lists and draws classes.
    - ``properties.measurements``: ``label`` (of the label image), ``score``, ``area`` (pixels).

    The keys are those of QuPath's ``qupath.lib.io.QuPathTypeAdapters``.

    Time and memory: of the boxes of the objects.

    Yields:
        dicts of lists, text and numbers, for ``json.dumps``.

    Example:
        >>> import numpy as np
        >>> from pycocotools import mask as coco_mask
        >>> from mmseg_instancenet.structures import RunLengthMasks
        >>> masks = RunLengthMasks([coco_mask.encode(np.asfortranarray([[0, 1, 1]], np.uint8))], (1, 3))
        >>> labels, boxes = np.array([[0, 1, 1]], np.int32), np.array([[1, 0, 3, 1]], np.float32)
        >>> result = InstanceResult(labels, np.array([0]), np.array([0.9], np.float32), boxes, masks, ('nucleus',))
        >>> [feature] = geojson_features(result)
        >>> feature['geometry']
        {'type': 'Polygon', 'coordinates': [[[1, 0], [3, 0], [3, 1], [1, 1], [1, 0]]]}
        >>> feature['properties']['measurements']
        {'label': 1, 'score': 0.9, 'area': 2}
    """
    for label, (pieces, index, score, area) in enumerate(
        zip(result.outlines, result.class_indices.tolist(), result.decimal_scores, result.areas.tolist(), strict=True),
        start=1,
    ):
        # GeoJSON repeats the first corner of a ring at its end.
        polygons = [[[*corners, corners[0]] for corners in (ring.tolist() for ring in piece)] for piece in pieces]
        geometry = (
            {'type': 'Polygon', 'coordinates': polygons[0]}
            if len(polygons) == 1
            else {'type': 'MultiPolygon', 'coordinates': polygons}
        )
        properties = {
            'objectType': 'detection',
            'classification': {'name': result.class_names[index], 'color': list(distinct_color(index))},
            'measurements': {'label': label, 'score': score, 'area': area},
        }
        yield {'type': 'Feature', 'geometry': geometry, 'properties': properties}


def write_geojson(result: InstanceResult, path: str | Path) -> None:
    """Writes a FeatureCollection of :func:`geojson_features`, a line for each instance; a file that is there is replaced."""
    with open(path, 'w', encoding='utf-8', newline='') as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, feature in enumerate(geojson_features(result)):
            file.write((',\n' if number else '\n') + json.dumps(feature))
        file.write(']}\n')
