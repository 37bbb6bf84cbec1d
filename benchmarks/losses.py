"""Benchmark of the two embedding losses, forward and backward, against a loop over instances and a matrix of pixels by
pixels.

::

    python -m benchmarks.losses

Data (a) of :mod:`benchmarks.data`, every image drawn by itself, every pixel labelled.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mmseg_instancenet.models.losses import DiscriminativeLoss, SphericalPairLoss

from .alternatives import dense_pair_terms, loop_discriminative_terms
from .command_line import benchmark_parser, report
from .comparison import Agreement, compare, largest_difference
from .data import margin_groups, mixed_groups
from .machine import available_bytes, devices
from .measure import Candidate
from .results import OURS, Row, not_measured

NAME = 'losses'
NUM_CLASSES = 3

_DENSE_MATRICES = 10
"""Matrices of pixels by pixels that the dense pair loss and its backward pass hold at once, at most."""

_SMALLER_SIDE = 64
"""Of the map on which the dense pair loss is measured where the whole one does not fit."""


class Batch(NamedTuple):
    """Embeddings (images, D, H, W) that require a gradient, instance and class map (images, H, W)."""

    embeddings_NDHW: Tensor
    instance_map_NHW: Tensor
    class_map_NHW: Tensor

    def embedding_bytes(self) -> int:
        return self.embeddings_NDHW.numel() * self.embeddings_NDHW.element_size()


def make_batch(
    draw: Callable, images: int, dims: int, side: int, num_instances: int, device: str, seed: int = 0
) -> Batch:
    """Builds square maps of synthetic pixels.

    Args:
        draw: :func:`~.data.mixed_groups` or :func:`~.data.margin_groups`.
        images, dims, side: of the maps.
        num_instances: in each image, the background not counted.
        device: of the tensors.
        seed: of the first image; the others follow.

    Example:
        >>> make_batch(mixed_groups, 2, dims=4, side=8, num_instances=3, device='cpu').embeddings_NDHW.shape
        torch.Size([2, 4, 8, 8])
    """
    drawn = [
        draw(side * side, dims, num_instances + 1, seed + image, num_classes=NUM_CLASSES) for image in range(images)
    ]
    embeddings_NDHW = torch.stack([data.x_ND.T.reshape(dims, side, side) for data in drawn])
    instance_map_NHW, class_map_NHW = (
        torch.stack([labels_N.reshape(side, side) for labels_N in of_images])
        for of_images in zip(*((data.group_N, data.class_N) for data in drawn), strict=True)
    )
    return Batch(
        embeddings_NDHW.contiguous().to(device).requires_grad_(), instance_map_NHW.to(device), class_map_NHW.to(device)
    )


def measure_rows(side: int, counts: Sequence[int], images: int) -> list[Row]:
    """Rows of both losses on maps of ``side`` by ``side`` pixels on every device, the first with every number of
    instances."""
    rows = []
    for device in devices():
        for count in counts:
            rows += _discriminative(side, count, images, device)
        rows += _spherical(side, device)
    if 'cuda' not in devices():
        rows.append(not_measured(NAME, 'all', None, OURS, 'cuda', 'torch sees no GPU'))
    return rows


def _discriminative(side: int, count: int, images: int, device: str) -> list[Row]:
    batch = make_batch(margin_groups, images, 4, side, count, device)
    loss = DiscriminativeLoss()

    def ours() -> Tensor:
        return loss(*batch)['loss_embedding']

    def loop() -> Tensor:
        terms = loop_discriminative_terms(*batch)
        return terms.pull + terms.push + 0.001 * terms.regularization

    setting = f'DiscriminativeLoss, {images} x 4 x {side} x {side}, size = instances an image'
    return _against(setting, count, device, batch, ours, 'loop', loop)


def _spherical(side: int, device: str) -> list[Row]:
    loss = SphericalPairLoss(margin=0.5)
    needed = _DENSE_MATRICES * 4 * side**4
    free = available_bytes(device)
    fits = free is None or needed < 0.9 * free
    rows = []
    for of_side in (side,) if fits else (side, _SMALLER_SIDE):
        batch = make_batch(mixed_groups, 1, 16, of_side, 30, device)

        def ours(batch: Batch = batch) -> Tensor:
            return loss(*batch)['loss_embedding']

        def dense(batch: Batch = batch) -> Tensor:
            return sum(dense_pair_terms(*batch[:2], margin=0.5))

        setting = 'SphericalPairLoss, D=16, 30 instances, size = pixels'
        if fits or of_side < side:
            rows += _against(setting, of_side**2, device, batch, ours, 'dense', dense)
        else:
            rows += _against(setting, of_side**2, device, batch, ours)
            reason = f'needs {needed / 2**30:.1f} GB, {free / 2**30:.1f} GB are free'
            rows.append(not_measured(NAME, setting, of_side**2, 'dense', device, reason))
    return rows


def _against(
    setting: str,
    size: int,
    device: str,
    batch: Batch,
    ours: Callable[[], Tensor],
    method: str | None = None,
    alternative: Callable[[], Tensor] | None = None,
) -> list[Row]:
    """Rows of a loss with its gradient and, if given, of the alternative, after a check that value and gradient agree."""

    def train(loss: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        value = loss()
        return value.detach(), *torch.autograd.grad(value, batch.embeddings_NDHW)

    def agree(outputs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Agreement]:
        if method is None:
            return {}
        # A pair at the hinge may fall to either side of it.
        return {method: {'largest difference': largest_difference(outputs[OURS], outputs[method], tolerance=1e-3)}}

    candidates = [Candidate(OURS, partial(train, ours))]
    if method is not None:
        candidates.append(Candidate(method, partial(train, alternative)))
    rows = compare(NAME, setting, size, device, candidates, agree)
    return [dataclasses.replace(row, note=f'memory {_multiple(row, batch)} x the embeddings') for row in rows]


def _multiple(row: Row, batch: Batch) -> str:
    return f'{row.peak_bytes / batch.embedding_bytes():.1f}'


def main(arguments: Sequence[str] | None = None) -> None:
    args = benchmark_parser(__doc__).parse_args(arguments)
    size = dict(side=16, counts=[3, 6], images=2) if args.quick else dict(side=129, counts=[5, 30, 100], images=4)
    report(NAME, measure_rows(**size), args.out)


if __name__ == '__main__':
    main()
