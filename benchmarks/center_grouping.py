"""Benchmark of center grouping on a whole image's pixels, against the network's forward pass.

::

    python -m benchmarks.center_grouping

Embeddings as ``DiscriminativeLoss`` makes them (:func:`benchmarks.data.margin_groups`), 4-D, objects of three classes; with a
tenth of the pixels mixed between two groups, which found many small groups of their own, and with none. Ours is center-shift;
center-fixed stands beside it.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from mmseg_instancenet.models import CenterGrouping

from .agreement import adjusted_rand_index, expect_index
from .command_line import benchmark_parser, report
from .comparison import Agreement, compare
from .data import MIXED_SHARE, MixedGroups, margin_groups
from .machine import devices
from .measure import Candidate, host_synchronizations
from .networks import OUR_CONFIG, build_ours, image_batch, our_config
from .results import OURS, Row, not_measured

NAME = 'center_grouping'
FIXED = 'center-fixed'
DIMS = 4
NUM_CLASSES = 3


def measure_rows(side: int, counts: Sequence[int], quick: bool) -> list[Row]:
    """Rows for images of ``side`` by ``side`` pixels with every number of objects, on every device."""
    rows = []
    for device in devices():
        model = build_ours(our_config(quick), device).eval()
        inputs = model.data_preprocessor(image_batch(side), False)['inputs']

        def forward(model: torch.nn.Module = model, inputs: Tensor = inputs) -> None:
            with torch.no_grad():
                model.decode_head(model.extract_feat(inputs))

        note = f'forward pass of {OUR_CONFIG}' + (', made small' if quick else '')
        network = Candidate('network', forward, note=note)
        for mixed_share in (MIXED_SHARE, 0.0):
            for count in counts:
                rows += _one_case(side, count, mixed_share, device, network)
    if 'cuda' not in devices():
        rows.append(not_measured(NAME, 'all', None, OURS, 'cuda', 'torch sees no GPU'))
    return rows


def _one_case(side: int, count: int, mixed_share: float, device: str, network: Candidate) -> list[Row]:
    data = margin_groups(side * side, DIMS, count + 1, 0, mixed_share=mixed_share, num_classes=NUM_CLASSES)
    data = MixedGroups(*(tensor.to(device) for tensor in data))
    embeddings_Dhw, class_map_hw = data.x_ND.T.reshape(DIMS, side, side).contiguous(), data.class_N.view(side, side)
    groupers = {mode: CenterGrouping(mode=mode, threshold=1.2) for mode in ('shift', 'fixed')}
    found = []

    def ours() -> Tensor:
        return groupers['shift'](embeddings_Dhw, class_map_hw)

    def fixed() -> Tensor:
        return groupers['fixed'](embeddings_Dhw, class_map_hw)

    def agree(outputs: dict[str, Tensor | None]) -> dict[str, Agreement]:
        # Mixed pixels belong to no object, and the class map gives the background.
        compared_N = ~data.is_mixed_N & (data.class_N > 0)
        indices = {
            method: adjusted_rand_index(data.group_N[compared_N], outputs[method].reshape(-1)[compared_N])
            for method in (OURS, FIXED)
        }
        expect_index(indices[OURS], f'{count} objects, index to truth of unmixed pixels')
        found.append(int(outputs[OURS].max()))
        return {method: {'index to truth, unmixed': index} for method, index in indices.items()}

    setting = f'{side} x {side}, {round(100 * mixed_share)} % mixed, size = objects'
    rows = compare(NAME, setting, count, device, [Candidate(OURS, ours), Candidate(FIXED, fixed), network], agree)
    note = f'{found[0]} groups in {int((data.class_N > 0).sum())} pixels'
    if device == 'cuda':
        note += f', {host_synchronizations(ours)} host synchronisations'
    return [dataclasses.replace(rows[0], note=note), *rows[1:]]


def main(arguments: Sequence[str] | None = None) -> None:
    args = benchmark_parser(__doc__).parse_args(arguments)
    side, counts = (33, [3, 5]) if args.quick else (513, [20, 100])
    report(NAME, measure_rows(side, counts, args.quick), args.out)


if __name__ == '__main__':
    main()
