"""Benchmark of the parts of a prediction: an image file to instances, by the shipped nuclei model.

::

    python -m benchmarks.prediction
    python -m benchmarks.prediction --model CONFIG CHECKPOINT --images a.png b.png

Unless images are given, they are mosaics of the model's example image, a nuclei image of 256 x 256 pixels with 52 nuclei: the
number of objects grows with the pixels. Each part is timed alone, on the outputs of the parts before it:

- reading: the file, decoded and normalised;
- network: class scores and embeddings;
- class map: the class of each pixel of the image;
- grouping: groups on the embeddings, their scores, and the pixels of the image that join them;
- instances: class, score, bounding box and run-length mask of each.

``prediction_parts.png`` has them as stacked bars.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure

from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.apis import example_image
from mmseg_instancenet.models.postprocess import group_image, make_instances

from .command_line import benchmark_parser, report
from .comparison import Agreement, compare
from .machine import devices
from .measure import Candidate
from .results import OURS, Row, not_measured

NAME = 'prediction'

WHOLE = 'whole'

PARTS = ('reading', 'network', 'class map', 'grouping', 'instances')

MIXED = 'ours, mixed precision'


def mosaic(side: int) -> np.ndarray:
    """The example image side by side with its mirror images, (side, side, 3) uint8, so that no nucleus is cut."""
    tile_HW3 = cv2.imread(str(example_image()))
    count = -(-side // len(tile_HW3))
    row = np.concatenate([tile_HW3[:, :: (-1) ** column] for column in range(count)], axis=1)
    return np.concatenate([row[:: (-1) ** place] for place in range(count)])[:side, :side]


def measure_rows(model: Sequence[str], images: Sequence[Path]) -> list[Row]:
    """Measures whole predictions and their parts on each image and device.

    Args:
        model: name, or config and checkpoint.
        images: files; the size of a row is the number of pixels.
    """
    rows = []
    for device in devices():
        exact, mixed = (InstanceInferencer(*model, device=device, amp=amp) for amp in (False, True))
        for image in images:
            rows += _one_image(exact, mixed, str(image), device)
    if 'cuda' not in devices():
        rows.append(not_measured(NAME, WHOLE, None, OURS, 'cuda', 'torch sees no GPU'))
    return rows


def _one_image(exact: InstanceInferencer, mixed: InstanceInferencer, image: str, device: str) -> list[Row]:
    found: dict[str, int] = {}

    def count(outputs: dict) -> dict[str, Agreement]:
        found.update({method: len(result) for method, result in outputs.items()})
        return {method: {'objects': float(number)} for method, number in found.items()}

    methods = {OURS: lambda: exact(image), MIXED: lambda: mixed(image)}
    candidates = [Candidate(method, run) for method, run in methods.items()]
    parts = prediction_parts(exact, image)
    pixels = cv2.imread(image).size // 3
    rows = compare(NAME, WHOLE, pixels, device, candidates, count)
    for part, run in parts.items():
        methods = {OURS: run} | ({MIXED: prediction_parts(mixed, image)[part]} if part == 'network' else {})
        rows += compare(
            NAME, part, pixels, device, [Candidate(method, run) for method, run in methods.items()], lambda _: {}
        )
    return rows


def prediction_parts(inferencer: InstanceInferencer, image: str) -> dict[str, Callable[[], object]]:
    """The parts of a prediction, each a function that does it once more."""
    model = inferencer.model

    with torch.inference_mode():
        data = model.data_preprocessor(inferencer.collate_fn([inferencer.pipeline(image)]), False)
        sample = data['data_samples'][0]

        def views() -> list:
            with inferencer.precision():
                return model.views(data['inputs'], data['data_samples'])

        found = views()
        class_HW, probability_HW = model.classify(sample, found, 'predicted')
        grouping = (
            found,
            model.class_numbering.things(class_HW),
            probability_HW,
            model.class_numbering.num_labels + 1,
            model.grouper,
            model.group_scorer,
        )
        groups = group_image(*grouping)
    return {
        part: torch.inference_mode()(run)
        for part, run in zip(
            PARTS,
            (
                lambda: inferencer.pipeline(image),
                views,
                lambda: model.classify(sample, found, 'predicted'),
                lambda: group_image(*grouping),
                lambda: make_instances(*groups, model.instance_scorer),
            ),
            strict=True,
        )
    }


def plot_parts(rows: Sequence[Row], path: Path) -> None:
    """Draws the seconds of the parts as stacked bars, one for each image, device and precision."""
    seconds = {(row.setting, row.size, row.device, row.method): row.seconds for row in rows}
    cases = list(dict.fromkeys((r.size, r.device) for r in rows if r.setting == 'network'))
    bars = [(*case, method) for case in cases for method in (OURS, MIXED)]
    figure = Figure(figsize=(8, 0.5 * len(bars) + 1.2), layout='constrained')
    axes = figure.subplots()
    left = np.zeros(len(bars))
    for part, hatch in zip(PARTS, ('', '//', 'xx', '\\\\', '..'), strict=True):
        of_part = [
            seconds.get((part, size, device, method), seconds[part, size, device, OURS])
            for size, device, method in bars
        ]
        axes.barh(range(len(bars)), of_part, left=left, label=part, hatch=hatch, edgecolor='white')
        left += of_part
    axes.set_yticks(
        range(len(bars)),
        [f'{size:,} pixels, {device}, {"mixed" if method == MIXED else "float32"}' for size, device, method in bars],
    )
    axes.invert_yaxis()
    axes.set(xlabel='seconds an image')
    figure.legend(ncols=len(PARTS), loc='outside upper center', frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        '--model', nargs='+', default=['nuclei'], help='name, or config and checkpoint; nuclei unless given'
    )
    parser.add_argument('--images', nargs='+', type=Path, help='image files; mosaics of the example image unless given')
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        images = args.images or []
        for side in () if images else (64,) if args.quick else (256, 512, 1024):
            images.append(Path(folder) / f'{side}.png')
            cv2.imwrite(str(images[-1]), mosaic(side))
        rows = measure_rows(args.model, images)
    report(NAME, rows, args.out)
    plot_parts(rows, args.out / f'{NAME}_parts.png')


if __name__ == '__main__':
    main()
