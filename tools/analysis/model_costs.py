"""Costs of models: parameters, FLOPs, time and memory of an image, memory of training.

::

    python tools/analysis/model_costs.py configs/instancenet_r50_coco.py
    python tools/analysis/model_costs.py configs/instancenet_digits.py configs/recurrent-embedding_digits.py --shape 64 64

Weights are random (a shipped model, such as ``nuclei``, has its own), and nothing is downloaded. The groups of random weights are
no objects, and a grouping costs what it finds: 16 drawn objects are grouped in place of what the network returns. FLOPs are those
of the network, a multiplication with its addition as one, as MMEngine counts them. Beside them is the number of values that other
operators compute (additions, activations, softmax), which are not counted, relative to the FLOPs. Times are by the clock, and in
brackets those of the processor, in all threads of the process, which other programs on the machine hardly change.
"""

import argparse
import gc
import json
import sys
import warnings
from datetime import date
from pathlib import Path

import torch
from mmengine.config import Config

from mmseg_instancenet.analysis.model_costs import ModelCosts, load_model, measure_costs, tested_size
from mmseg_instancenet.apis.model_files import config_and_checkpoint

_COLUMNS = (
    *('model', 'input', 'parameters, M', 'GFLOPs', 'not counted, %'),
    *('network, ms (processor)', 'to the instances, ms (processor)', 'found', 'memory, MiB', 'in training, MiB'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', help='config files, or names of shipped models')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help="size of the image; that of the test pipeline's resize unless given",
    )
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu or cuda')
    parser.add_argument('--repeats', type=int, default=5, help='of each time, of which the median is taken')
    parser.add_argument('--train-images', type=int, default=2, help='images of the training iteration; 0 leaves it out')
    parser.add_argument('--out', type=Path, help='json file; models that it has already are replaced')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    warnings.simplefilter('ignore')
    rows = json.loads(args.out.read_text()) if args.out and args.out.is_file() else {}
    print(f'torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, median of {args.repeats}')
    print(f'memory above the weights; in training of {args.train_images} images')
    print(f'| {" | ".join(_COLUMNS)} |\n{"|---" * len(_COLUMNS)}|', flush=True)
    for name in args.models:
        try:
            config = Config.fromfile(config_and_checkpoint(name)[0])
            size = tuple(args.shape) if args.shape else tested_size(config)
        except (ValueError, FileNotFoundError) as error:
            raise SystemExit(f'{name}: {error}') from error
        model = load_model(name if not Path(name).is_file() else config, args.device)
        costs = measure_costs(model, size, args.train_images, args.repeats)
        print(_row(Path(name).stem, size, costs), flush=True)
        rows[Path(name).stem] = dict(
            costs._asdict(), size=size, flop_count=costs.flop_count._asdict(),
            network=costs.network._asdict(), predict=costs.predict._asdict(), train_images=args.train_images,
            date=str(date.today()),
            device=args.device, threads=torch.get_num_threads(), torch=torch.__version__, repeats=args.repeats,
        )  # fmt: skip
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(rows, indent=1))
        del model
        gc.collect()
    return 0


def _row(name: str, size: tuple[int, int], costs: ModelCosts) -> str:
    gflops = costs.flop_count.flops / 1e9
    values = [
        name,
        f'{size[0]} x {size[1]}',
        f'{costs.parameters / 1e6:.2f}',
        f'{gflops:.3g}' if gflops < 1000 else f'{gflops:.0f}',
        f'{100 * sum(costs.flop_count.values_not_counted.values()) / costs.flop_count.flops:.1f}',
        *(f'{time.clock * 1e3:.0f} ({time.processor * 1e3:.0f})' for time in (costs.network, costs.predict)),
        '' if costs.num_instances is None else str(costs.num_instances),
        *('' if peak is None else f'{peak / 2**20:.0f}' for peak in (costs.predict_bytes, costs.train_bytes)),
    ]
    return f'| {" | ".join(values)} |'


if __name__ == '__main__':
    sys.exit(main())
