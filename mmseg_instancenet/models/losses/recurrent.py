"""A loss on embeddings through iterations of mean shift (Kong & Fowlkes 2018, section 3.3)."""

from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...structures import BACKGROUND_INSTANCE, IGNORED_CLASS, IGNORED_INSTANCE, EmbeddingMargins
from ..nested import build_nested
from .instance_numbering import EmbeddingLoss, class_map_or_one_class, number_instances
from .misplaced import refuse_class_scores


@MODELS.register_module()
class RecurrentLoss(nn.Module):
    r"""Unrolls iterations of mean shift over the embeddings and applies a loss after each (Kong & Fowlkes 2018).

    .. math:: L = \sum_{t=0}^{T} \ell(X^{(t)}), \qquad X^{(0)} \text{ the network's embeddings},

    with :math:`X^{(t)}` the embeddings after t loops of ``grouping`` and the gradient flowing through all of them, so that it
    concentrates on the pixels that the loops would send to the wrong group. Or :math:`L = \ell(X^{(T)})` alone.

    Time: per image of P pixels, T times P^2 D operations, and two and a half times that in the backward pass. Peak
    memory: linear in P, about ten times the embeddings a loop, and that of the loss for each loop.

    Args:
        loss: config of the loss on embeddings (``SphericalPairLoss``, ``DiscriminativeLoss``); one that samples pixels draws anew
            after each loop, as in the authors' code.
        grouping: config of a ``MeanShiftGrouping``; ``None`` for the model's ``grouper``, so that training and testing share one
            setting. Its ``class_agnostic`` decides whether the pixels of all classes, or only of one, attract one another.
        loops: T, at least 1; the paper trains with 1 to 5.
        every_loop: apply the loss after every loop and to the initial embeddings too, or only after the last.
        foreground_only: kernel and loss see the pixels of objects alone, as a grouper does that takes the foreground
            from the class map, at the cost of these pixels alone; otherwise all that are not ignored.
        max_pixels: kernel and loss see a random choice of this many pixels of each image, for speed; ``None`` takes
            all, as the paper. Sizes of instances are then counted among these.

    Example:
        >>> from mmseg_instancenet.models import MeanShiftGrouping
        >>> grouping = dict(type='MeanShiftGrouping', kernel='norm', concentration=2)
        >>> loss = RecurrentLoss(dict(type='DiscriminativeLoss'), grouping, loops=2)
        >>> embeddings = torch.randn(1, 4, 8, 8, requires_grad=True)
        >>> ids = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> ids[:, :, 4:], ids[:, :4, :4] = 1, 9
        >>> sorted(loss(embeddings, ids, (ids > 0).long()))[:3]
        ['loss_embedding', 'pull_0', 'pull_1']
    """

    def __init__(
        self,
        loss: dict,
        grouping: dict | None = None,
        loops: int = 3,
        every_loop: bool = True,
        foreground_only: bool = False,
        max_pixels: int | None = None,
    ) -> None:
        super().__init__()
        self.register_forward_pre_hook(refuse_class_scores, with_kwargs=True)
        if loops < 1:
            raise ValueError(f'expected loops >= 1, got {loops}; without loops, use the loss itself')
        if max_pixels is not None and max_pixels < 1:
            raise ValueError(f'expected max_pixels >= 1, or None for all, got {max_pixels}')
        # torch takes attributes of a module for tensors or modules; these two have settings and methods.
        self.loss: Any = build_nested(loss)
        if not isinstance(self.loss, EmbeddingLoss):
            raise TypeError(
                'RecurrentLoss: expected a loss that derives from EmbeddingLoss, such as SphericalPairLoss, got '
                f'{type(self.loss).__name__}'
            )
        self.grouping: Any = None if grouping is None else _with_loops(build_nested(grouping))
        if (foreground_only or max_pixels is not None) and getattr(self.loss, 'push_distance', None) is not None:
            raise ValueError(
                'expected foreground_only=False and max_pixels=None with push_distance, since selected pixels have no '
                'positions in the image'
            )
        self.loops, self.every_loop = loops, every_loop
        self.foreground_only, self.max_pixels = foreground_only, max_pixels
        self._checked = False

    def set_grouper(self, grouper: nn.Module) -> None:
        """Uses the model's grouper unless the config gave a ``grouping``; logs the settings in which the two differ.

        Raises:
            TypeError: if the grouper is to be taken and has no loops.
        """
        if self.grouping is None:
            self.grouping = _with_loops(grouper)
            return
        own, of_model = _settings(self.grouping), _settings(grouper)
        different = [
            f'{name} {own[name]} (grouper: {of_model.get(name)})' for name in own if own[name] != of_model.get(name)
        ]
        if different:
            print_log(
                f"RecurrentLoss: its grouping differs from the model's grouper in {', '.join(different)}",
                logger='current',
            )

    @property
    def loss_name(self) -> str:
        """The name of the inner loss, under which the total is logged."""
        return self.loss.loss_name

    def margins(self, embedding_dims: int) -> EmbeddingMargins:
        """The margins of the inner loss."""
        return self.loss.margins(embedding_dims)

    def forward(
        self, embeddings_NDHW: Tensor, instance_map_NHW: Tensor, class_map_NHW: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Returns the sum over the iterations under the loss's own name, and its parts for the log, ``<part>_<loop>``.

        The class map may be left out where loss and grouping are ``class_agnostic``.
        """
        if self.grouping is None:
            raise ValueError(
                "RecurrentLoss has no grouping: give it one, grouping=dict(type='MeanShiftGrouping', ...), or use it in an "
                'EmbeddingSegmentor, whose grouper it then uses'
            )
        class_map_NHW = class_map_or_one_class(
            instance_map_NHW, class_map_NHW, self.loss.class_agnostic and self.grouping.class_agnostic
        )
        if not self._checked:
            self._checked = True
            self.grouping.check_margins(self.margins(embeddings_NDHW.shape[1]))
        if self.foreground_only or self.max_pixels is not None:
            embeddings_NDHW, instance_map_NHW, class_map_NHW = self._choose(
                embeddings_NDHW, instance_map_NHW, class_map_NHW
            )
        instances = self.loss.number(instance_map_NHW, class_map_NHW)
        self._warn_if_groups_merge(instance_map_NHW, class_map_NHW)
        maps = self.grouping.loops(embeddings_NDHW, self._regions(instance_map_NHW, class_map_NHW))
        total, results = 0, {}
        for loop in range(self.loops + 1):
            shifted_NDHW = next(maps)
            if not self.every_loop and loop < self.loops:
                continue
            for name, value in self.loss(shifted_NDHW, instance_map_NHW, class_map_NHW, instances).items():
                if name == self.loss_name:
                    total = total + value
                else:
                    results[f'{name}_{loop}'] = value
        return {self.loss_name: total, **results}

    @torch.no_grad()
    def iterations(self, embeddings_Dhw: Tensor, class_map_hw: Tensor) -> Tensor:
        """Returns the embeddings of one image after 0, 1, .., ``loops`` iterations, for drawings: (T + 1, D, h, w).

        The pixels attract one another as in training with this class map, where every pixel of a class is an object. Those
        that attract none are 0. Time and memory: one image of a training, without the backward pass.

        Args:
            embeddings_Dhw: (D, h, w) of the network.
            class_map_hw: (h, w) integers, 0 = background, 255 = ignored.
        """
        region_hw = self._regions((class_map_hw > 0).long()[None], class_map_hw[None])[0]
        inside_hw = region_hw > 0
        result = embeddings_Dhw.new_zeros((self.loops + 1, *embeddings_Dhw.shape), dtype=torch.float)
        if inside_hw.any():
            row_1D1P, region_11P = embeddings_Dhw[:, inside_hw][None, :, None], region_hw[inside_hw][None, None]
            for loop, shifted_1D1P in zip(
                range(self.loops + 1), self.grouping.loops(row_1D1P, region_11P), strict=False
            ):
                result[loop][:, inside_hw] = shifted_1D1P[0, :, 0].float()
        return result

    def _counts(self, instance_map_NHW: Tensor, class_map_NHW: Tensor) -> Tensor:
        """Marks the pixels that enter kernel and loss: (N, H, W) bool."""
        counts_NHW = (instance_map_NHW != IGNORED_INSTANCE) & (class_map_NHW != IGNORED_CLASS)
        return counts_NHW & (instance_map_NHW != BACKGROUND_INSTANCE) if self.foreground_only else counts_NHW

    def _regions(self, instance_map_NHW: Tensor, class_map_NHW: Tensor) -> Tensor:
        """Regions whose pixels attract one another: numbers above 0; 0 = pixels without attraction."""
        counts_NHW = self._counts(instance_map_NHW, class_map_NHW)
        return torch.where(counts_NHW, 1 if self.grouping.class_agnostic else class_map_NHW + 1, 0)

    def _choose(self, embeddings_NDHW: Tensor, *maps_NHW: Tensor) -> list[Tensor]:
        """Selects the pixels that enter the loss, at most ``max_pixels`` of them drawn at random, as images of one row.

        Images with fewer pixels than others are filled up with ignored ones.
        """
        counts_NP = self._counts(*maps_NHW).flatten(1)
        longest = max(1, int(counts_NP.sum(1).max()))
        order_NP = (~counts_NP).float()
        if self.max_pixels is not None and self.max_pixels < longest:
            longest = self.max_pixels
            # Drawn on the CPU, so that the sample is the same on every device.
            order_NP += torch.rand(order_NP.shape).to(order_NP.device)
        pixel_NM = order_NP.sort(dim=1, stable=True).indices[:, :longest]
        x_NDP = embeddings_NDHW.flatten(2)
        chosen_NDM = x_NDP.gather(2, pixel_NM[:, None].expand(-1, x_NDP.shape[1], -1))
        fills_NM = ~counts_NP.gather(1, pixel_NM)
        instance_NM, class_NM = (labels_NHW.flatten(1).gather(1, pixel_NM) for labels_NHW in maps_NHW)
        instance_NM = instance_NM.masked_fill(fills_NM, IGNORED_INSTANCE)
        return [chosen_NDM[:, :, None], instance_NM[:, None], class_NM[:, None]]

    def _warn_if_groups_merge(self, instance_map_NHW: Tensor, class_map_NHW: Tensor) -> None:
        """Warns if two instances that attract each other differ so much in size that they can merge."""
        if not self.grouping.reaches_far(instance_map_NHW[0].numel()):
            return
        instances = number_instances(instance_map_NHW, class_map_NHW, background_is_instance=True)
        size_K = instances.size_K
        if len(size_K) == 0:
            return
        attracting_K = instances.image_K
        if not self.grouping.class_agnostic:
            attracting_K = attracting_K * (int(instances.class_K.max()) + 1) + instances.class_K
        _, region_K = torch.unique(attracting_K, return_inverse=True)
        largest_R, smallest_R = (
            size_K.new_zeros(len(size_K)).scatter_reduce_(0, region_K, size_K, reduce=extreme, include_self=False)
            for extreme in ('amax', 'amin')
        )
        self.grouping.warn_if_groups_merge(float((largest_R / smallest_R)[region_K].max()))


def _with_loops(grouping: nn.Module) -> nn.Module:
    if not hasattr(grouping, 'loops'):
        raise TypeError(
            f'RecurrentLoss: expected a grouping with loops, such as MeanShiftGrouping, got {type(grouping).__name__}'
        )
    return grouping


def _settings(grouping: nn.Module) -> dict:
    """The settings of a grouper, for comparing two."""
    settings = {
        name: value for name, value in vars(grouping).items() if not name.startswith('_') and name != 'training'
    }
    kernel = settings.pop('kernel_settings', None)
    return settings if kernel is None else {**settings, **kernel._asdict()}
