"""Objects at the seams of tiles against those of the untiled image, and memory against the size of the image, on nuclei.

::

    python -m benchmarks.large_images --data data/dsb2018

The images of ``val.json``, each with its own contrast, lie side by side in one mosaic, flipped and repeated until it is full. The
model of nuclei that the package ships segments it as a whole and in tiles. An object of the whole crosses a seam if it has
pixels in the cores of two tiles; it is matched if an object of the tiles has an IoU of at least 0.9 with it. Tiles of several
sizes have their seams in different places. A margin of 0 is the simple way, to cut the image into pieces.

The whole image is grouped as a whole, while its network runs in parts with 128 pixels of context: the outputs do not depend on
pixels farther away than 112. In one pass, 4096 x 4096 pixels would take about 10 GB; ``--plain`` does it all the same.

For memory the mosaic is written to a TIFF of tiles with Deflate, and read by parts. Each row is measured in a process of its
own: the rise of its resident memory, less the label map, which is the output. The grouper's ``max_groups`` is raised, as the
whole image has more nuclei than its 2,000.
"""

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tifffile
import torch
from torch import Tensor

from mmseg_instancenet.analysis.measure import resident_peak
from mmseg_instancenet.apis import init_model
from mmseg_instancenet.apis.image_alone import image_steps, run_on_image
from mmseg_instancenet.evaluation.functional.label_overlap import label_overlap
from mmseg_instancenet.models import EmbeddingSegmentor
from mmseg_instancenet.outputs import InstanceResult, contrast_limits, open_windows, segment_tiled, tile_spans
from mmseg_instancenet.structures import normalize_percentiles

from .command_line import benchmark_parser
from .machine import describe_machine
from .results import Row, format_table, write_report

NAME = 'large_images'

_MATCHED_IOU = 0.9
_MAX_GROUPS = 1_000_000
_FILE_TILE = 256
_PART, _CONTEXT = 1024, 128


class Run(NamedTuple):
    """``labels_HW`` of a run, its time, and the rise of resident memory in it, ``None`` where the system does not give it."""

    labels_HW: np.ndarray
    seconds: float
    peak_bytes: int | None


def mosaic(folder: Path, side: int, seed: int = 0) -> np.ndarray:
    """(side, side, 3) uint8 BGR: rows of images of one height, flipped at random, from ``val.json`` and ``images/``."""
    rng = np.random.default_rng(seed)
    by_height: dict[int, list[str]] = {}
    for image in json.loads((folder / 'val.json').read_text())['images']:
        by_height.setdefault(image['height'], []).append(image['file_name'])
    heights = [height for height, names in by_height.items() if len(names) > 1]
    canvas = np.zeros((side, side, 3), np.uint8)
    top, row = 0, 0
    while top < side:
        height = heights[row % len(heights)]
        left = 0
        while left < side:
            image = cv2.imread(str(folder / 'images' / rng.choice(by_height[height])), cv2.IMREAD_COLOR)
            image = image[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
            image = (normalize_percentiles(image) * 255).round().astype(np.uint8)
            room = canvas[top : top + height, left : left + image.shape[1]]
            room[:] = image[: room.shape[0], : room.shape[1]]
            left += image.shape[1]
        top, row = top + height, row + 1
    return canvas


class NetworkInParts:
    """The outputs of a model's network for a whole image, computed in parts whose context reaches beyond its convolutions."""

    def __init__(self, model: EmbeddingSegmentor) -> None:
        self.network, self.pixels_per_unit = model.scores_and_embeddings, model.branch.pixels_per_unit

    def __call__(
        self, inputs: Tensor, metas: Sequence[dict], origin: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`EmbeddingSegmentor.scores_and_embeddings`, of a network whose maps have the size of its input."""
        whole: list[Tensor] = []
        for rows in tile_spans(inputs.shape[2], _PART, _CONTEXT):
            for columns in tile_spans(inputs.shape[3], _PART, _CONTEXT):
                part = inputs[:, :, rows.window, columns.window].contiguous()
                maps = self.network(part, metas, (origin[0] + rows.start, origin[1] + columns.start))
                # The embeddings hold the position in the part (x, then y), in units of some pixels.
                maps[1][:, 0] += columns.start / self.pixels_per_unit
                maps[1][:, 1] += rows.start / self.pixels_per_unit
                inner = [slice(span.core_start - span.start, span.core_stop - span.start) for span in (rows, columns)]
                whole = whole or [one.new_empty(1, one.shape[1], *inputs.shape[2:]) for one in maps]
                for target, one in zip(whole, maps, strict=True):
                    target[:, :, rows.core, columns.core] = one[:, :, inner[0], inner[1]]
        return whole[0], whole[1]


def segment_file(path: Path, tile: int, margin: int, in_parts: bool = False) -> Run:
    """Segments an image file with the model of nuclei in tiles of ``tile`` pixels, ``in_parts`` with :class:`NetworkInParts`."""
    model = init_model('nuclei', device='cpu', cfg_options={'model.grouper.max_groups': _MAX_GROUPS})
    if in_parts:
        model.scores_and_embeddings = NetworkInParts(model)
    load, normalize, *others = image_steps(model.cfg.test_dataloader.dataset.pipeline)
    image = open_windows(path, load)
    start = time.perf_counter()

    def run() -> np.ndarray:
        limits = contrast_limits(image, normalize.low, normalize.high, normalize.per_channel, block=min(tile, 1024))
        return segment_tiled(_segment(model, [normalize, *others], limits), image, tile, margin).labels

    labels_HW, peak_bytes = resident_peak(run)
    return Run(labels_HW, time.perf_counter() - start, peak_bytes)


def _segment(
    model: torch.nn.Module, steps: Sequence[Callable], limits: tuple[np.ndarray, np.ndarray]
) -> Callable[[np.ndarray], InstanceResult]:
    def segment(image_hwC: np.ndarray) -> InstanceResult:
        size = image_hwC.shape[:2]
        results = dict(img=image_hwC, img_path=None, img_id=0, img_shape=size, ori_shape=size, contrast_limits=limits)
        packed = run_on_image(steps, results)
        with torch.no_grad():
            sample = model.test_step(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))[0]
        return InstanceResult.from_data_sample(sample, model.dataset_meta['classes'])

    return segment


def seam_agreement(whole_HW: np.ndarray, tiled_HW: np.ndarray, tile: int, margin: int) -> dict[str, float]:
    """How many objects of the whole image cross a seam of tiles, and which share of them, and of all, the tiles match.

    Example:
        >>> whole = np.zeros((1, 96), int)
        >>> whole[:, 40:60], whole[:, 70:80] = 1, 2
        >>> tiled = np.where(np.arange(96) < 50, whole, 0)
        >>> seam_agreement(whole, tiled, tile=64, margin=16)
        {'at seams': 1, 'matched at seams': 0.0, 'all': 2, 'matched': 0.0}
    """
    core_HW = np.zeros(whole_HW.shape, np.int64)
    for axis, length in enumerate(whole_HW.shape):
        for number, span in enumerate(tile_spans(length, tile, margin)):
            core_HW[(span.core, slice(None)) if axis == 0 else (slice(None), span.core)] += number << (20 * axis)
    count = int(whole_HW.max())
    objects_P = whole_HW > 0
    pairs = np.unique(np.stack([whole_HW[objects_P], core_HW[objects_P]]), axis=1)
    crosses_K = np.bincount(pairs[0], minlength=count + 1)[1:] > 1
    overlap = label_overlap(whole_HW, tiled_HW)
    best_K = np.zeros(count)
    np.maximum.at(best_K, overlap.truth_Q, overlap.iou_Q)
    matched_K = best_K >= _MATCHED_IOU
    return {
        'at seams': int(crosses_K.sum()),
        'matched at seams': float(matched_K[crosses_K].mean()) if crosses_K.any() else float('nan'),
        'all': count,
        'matched': float(matched_K.mean()),
    }


def measure_rows(
    data: Path,
    folder: Path,
    side: int,
    sides: Sequence[int],
    tiles: Sequence[int],
    margins: Sequence[int],
    plain: bool = False,
) -> list[Row]:
    """Agreement on a mosaic of ``side``, for every tile and margin; memory on mosaics of ``sides``, for the first tile and the
    last margin."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    whole = _in_own_process(_write(data, folder, side), side, 0, not plain)
    rows.append(_row(side, 'whole' if plain else 'whole, network in parts', whole))
    for tile in tiles:
        for margin in margins:
            tiled = _in_own_process(_write(data, folder, side), tile, margin)
            agreement = seam_agreement(whole.labels_HW, tiled.labels_HW, tile, margin)
            rows.append(_row(side, f'tiles of {tile}, margin {margin}', tiled, agreement))
    for other in sides:
        if other != side:
            tiled = _in_own_process(_write(data, folder, other), tiles[0], margins[-1])
            rows.append(_row(other, f'tiles of {tiles[0]}, margin {margins[-1]}', tiled))
    return rows


def _row(side: int, method: str, run: Run, agreement: dict[str, float] | None = None) -> Row:
    peak = None if run.peak_bytes is None else run.peak_bytes - run.labels_HW.nbytes
    objects = f'{int(run.labels_HW.max())} objects'
    return Row(NAME, 'nuclei', side, method, 'cpu', run.seconds, peak, 'resident', 1, agreement or {}, objects)


def _write(data: Path, folder: Path, side: int) -> Path:
    path = folder / f'mosaic_{side}.tif'
    if not path.exists():
        rgb = mosaic(data, side)[..., ::-1]
        tifffile.imwrite(path, rgb, tile=(_FILE_TILE, _FILE_TILE), compression='zlib', photometric='rgb')
    return path


def _in_own_process(*arguments: Any) -> Run:
    """:func:`segment_file` in a new process."""
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(segment_file, arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument('--data', type=Path, default=Path('data/dsb2018'), help='folder with val.json and images/')
    parser.add_argument('--side', type=int, default=4096, help='side of the mosaic for agreement')
    parser.add_argument('--sides', type=int, nargs='*', default=[2048, 8192], help='sides of other mosaics, for memory')
    parser.add_argument('--tiles', type=int, nargs='+', default=[1024, 768], help='the first one is for memory too')
    parser.add_argument(
        '--margins', type=int, nargs='+', default=[0, 32, 64, 96], help='the last one is for memory too'
    )
    parser.add_argument('--plain', action='store_true', help='the network of the whole image in one pass')
    args = parser.parse_args(arguments)
    if args.quick:
        args.side, args.sides, args.tiles, args.margins = 192, [128], [128], [0, 32]
    folder = args.out / NAME
    rows = measure_rows(args.data, folder, args.side, args.sides, args.tiles, args.margins, args.plain)
    print(format_table(rows))
    command = f'python -m benchmarks.{NAME} {" ".join(sys.argv[1:])}'.strip()
    write_report(rows, args.out / f'{NAME}.json', command, describe_machine())


if __name__ == '__main__':
    main()
