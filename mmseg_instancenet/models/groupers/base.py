"""Base of the groupers: regions in which groups are found, size limits, and joining of leftover pixels."""

import warnings
from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor, nn

from ...structures import (
    IGNORED_CLASS,
    EmbeddingMargins,
    check_tensors,
    group_means,
    group_statistics,
    renumber,
    split_components,
    unit_vectors,
)

_BLOCK = 1 << 22
"""Distances between pixels and groups are computed in blocks of this many values: 16 MB."""


class Grouper(nn.Module, metaclass=ABCMeta):
    """Turns embeddings and a class map into groups; a subclass groups the pixels of one region.

    Args:
        class_agnostic: group all foreground pixels together instead of class by class; the class of a group is then
            the one that most of its pixels have. Goes with ``DiscriminativeLoss(class_agnostic=True)``.
        background_groups: group the background's pixels with the others, and drop a group whose commonest class in the
            class map is the background: the embedding then decides the object boundaries. Only with ``class_agnostic``;
            goes with losses in which the background is an instance.
        connected: split groups into 8-connected components. Goes with ``DiscriminativeLoss(push_distance=...)``, after
            which objects far from each other may share an embedding.
        min_size: groups of fewer pixels of the map are dissolved, since they are more often outliers than objects: each
            pixel joins the group of its region whose mean embedding is nearest. With ``connected`` a small group as a whole
            joins one that it touches, directly or through other small groups, and is dropped as a speck if there is none; see
            :func:`join_touching`.
        max_instances: keep only this many groups of an image, the largest; ``None`` keeps all.
        max_groups: where more groups than this are found, the largest stay and the others are treated as those below
            ``min_size``, with one warning: scattered embeddings would otherwise make a group of nearly every pixel, and a
            validation would take hours.
    """

    def __init__(
        self,
        class_agnostic: bool = False,
        background_groups: bool = False,
        connected: bool = False,
        min_size: int = 1,
        max_instances: int | None = None,
        max_groups: int = 2000,
    ) -> None:
        super().__init__()
        if min_size < 1:
            raise ValueError(f'expected min_size >= 1 pixel, got {min_size}')
        if max_instances is not None and max_instances < 1:
            raise ValueError(f'expected max_instances >= 1, or None to keep all, got {max_instances}')
        if max_groups < 1:
            raise ValueError(f'expected max_groups >= 1, got {max_groups}')
        if background_groups and (connected or not class_agnostic):
            raise ValueError(
                'expected background_groups=True with class_agnostic=True and connected=False, got '
                f'class_agnostic={class_agnostic} and connected={connected}'
            )
        self.class_agnostic, self.background_groups, self.connected = class_agnostic, background_groups, connected
        self.min_size, self.max_instances, self.max_groups = min_size, max_instances, max_groups
        # How embeddings are compared in every step; a subclass may set other values.
        self.norm, self.only_directions = 2.0, False
        self._warned_of_groups = False

    @abstractmethod
    def group(self, x_ND: Tensor) -> Tensor:
        """Groups the pixels of one region: (N, D) embeddings, N >= 1, to (N,) labels 1, 2, ..; 0 for a pixel without a group."""

    def group_regions(self, x_ND: Tensor, region_N: Tensor) -> Tensor:
        """Groups the pixels of several regions: (N, D) embeddings and (N,) integers, N >= 1, to (N,) labels 1, 2, .., region
        after region; 0 for a pixel without a group."""
        label_N = torch.zeros_like(region_N, dtype=torch.long)
        found = 0
        for region in region_N.unique().tolist():
            pixel_R = (region_N == region).nonzero().squeeze(1)
            label_R = self.group(x_ND[pixel_R])
            label_N[pixel_R] = torch.where(label_R > 0, label_R + found, 0)
            found += int(label_R.max())
        return label_N

    def check_margins(self, margins: EmbeddingMargins) -> None:
        """Checks the settings against the margins of the loss; called once, for a loss that has margins."""

    def regions(self, class_map: Tensor) -> Tensor:
        """Regions in which groups are found, a map of integers: the classes, or 1 for all classes if
        ``class_agnostic``; 0 = no region."""
        grouped = (class_map >= (0 if self.background_groups else 1)) & (class_map != IGNORED_CLASS)
        return torch.where(grouped, 1 if self.class_agnostic else class_map, 0)

    def forward(self, embeddings_Dhw: Tensor, class_map_hw: Tensor | None = None) -> Tensor:
        """Groups one image.

        Args:
            embeddings_Dhw: (D, h, w) floating point.
            class_map_hw: (h, w) integers: 0 = background, 255 = ignore; neither is grouped (see ``background_groups``). Of one
                class it may be a mask, bool. Left out, which ``class_agnostic`` has to allow, every pixel is grouped.

        Returns:
            (h, w) int64: 0 = no group, groups numbered 1, 2, .. without gaps, region after region; with ``connected`` in
            reading order instead.

        Raises:
            ValueError: if shapes or settings do not fit, or an embedding is not finite.
            TypeError: if an argument is no tensor, or the class map is missing and ``class_agnostic`` is False.
        """
        check_tensors(embeddings=embeddings_Dhw, class_map=class_map_hw)
        if class_map_hw is None:
            if not self.class_agnostic:
                raise TypeError(
                    f'{type(self).__name__} groups class by class: expected a class map (h, w), got None. Give one, or set '
                    'class_agnostic=True to group all pixels'
                )
            class_map_hw = embeddings_Dhw.new_ones(embeddings_Dhw.shape[1:], dtype=torch.long)
        if embeddings_Dhw.dim() != 3 or class_map_hw.shape != embeddings_Dhw.shape[1:]:
            raise ValueError(
                'expected embeddings (D, h, w) and a class map (h, w), got '
                f'{tuple(embeddings_Dhw.shape)} and {tuple(class_map_hw.shape)}'
            )
        return self.group_map(self.prepare(embeddings_Dhw), self.regions(class_map_hw))

    def prepare(self, embeddings_Dhw: Tensor) -> Tensor:
        """Prepares embeddings for comparison, (D, h, w) float32: scaled to length 1 if only directions matter.

        One whose length overflows becomes NaN, which the grouping refuses.
        """
        embeddings_Dhw = embeddings_Dhw.float()
        return unit_vectors(embeddings_Dhw, dim=0) if self.only_directions else embeddings_Dhw

    def compared(self, embeddings_Dhw: Tensor) -> Tensor:
        """Selects the values of prepared embeddings that enter distances and means of groups, (E, h, w): all of them,
        unless a subclass leaves out the last ones."""
        return embeddings_Dhw

    def group_map(self, embeddings_Dhw: Tensor, region_hw: Tensor) -> Tensor:
        """Groups one map, region by region.

        Args:
            embeddings_Dhw: (D, h, w) of :meth:`prepare`.
            region_hw: (h, w) of :meth:`regions`.

        Returns:
            as :meth:`forward`.
        """
        labels_hw = torch.zeros_like(region_hw, dtype=torch.long)
        pixel_P = region_hw.reshape(-1).nonzero().squeeze(1)
        found, stopped = 0, False
        if len(pixel_P):
            x_PD = embeddings_Dhw.flatten(1).T.index_select(0, pixel_P)
            # A class map may be of bytes, which cannot count the groups.
            label_P = self.group_regions(x_PD, region_hw.reshape(-1)[pixel_P].long())
            labels_hw.view(-1)[pixel_P] = label_P
            found, stopped = int(label_P.max()), bool((label_P == 0).any())
        if self.connected:
            labels_hw = split_components(labels_hw)
        size_K = torch.bincount(labels_hw.reshape(-1))
        keep_K = size_K >= self.min_size
        keep_K[0] = False
        count = int(keep_K.sum())
        if count > self.max_groups or stopped:
            self._warn_of_groups(max(count, found))
            keep_K = _largest(size_K * keep_K, self.max_groups)
        kept_hw = renumber(labels_hw, keep_K)
        if self.connected:
            small_hw = renumber(labels_hw, ~keep_K)
            if stopped:  # each pixel that was not grouped is a small group of its own
                left_hw = (region_hw > 0) & (labels_hw == 0)
                small_hw[left_hw] = small_hw.max() + 1 + torch.arange(int(left_hw.sum()), device=small_hw.device)
            join_touching(self.compared(embeddings_Dhw), kept_hw, small_hw, region_hw, self.norm)
        else:
            self._join_nearest(self.compared(embeddings_Dhw), kept_hw, region_hw)
        if self.max_instances is None or int(keep_K.sum()) <= self.max_instances:
            return kept_hw
        return renumber(kept_hw, _largest(torch.bincount(kept_hw.reshape(-1)), self.max_instances))

    def _join_nearest(self, embeddings_Dhw: Tensor, kept_hw: Tensor, region_hw: Tensor) -> None:
        """Assigns pixels without a group to the group of their region with the nearest mean embedding, in place."""
        lost_hw = (region_hw > 0) & (kept_hw == 0)
        if not lost_hw.any():
            return
        mean_KD, _, region_K, norm = group_statistics(embeddings_Dhw, kept_hw, region_hw, self.norm)
        lost_Q = lost_hw.reshape(-1).nonzero().squeeze(1)
        region_Q = region_hw.reshape(-1)[lost_Q]
        for region in region_Q.unique().tolist():
            kept = (region_K == region).nonzero().squeeze(1)
            if len(kept) == 0:
                continue
            for pixel_B in lost_Q[region_Q == region].split(max(1, _BLOCK // len(kept))):
                distance_BK = torch.cdist(embeddings_Dhw.flatten(1)[:, pixel_B].T, mean_KD[kept], p=norm)
                kept_hw.view(-1)[pixel_B] = kept[distance_BK.argmin(1)] + 1

    def _warn_of_groups(self, count: int) -> None:
        """Warns once if there are more groups than ``max_groups``."""
        if not self._warned_of_groups:
            self._warned_of_groups = True
            warnings.warn(
                f'{type(self).__name__}: expected at most max_groups={self.max_groups} groups of at least '
                f'min_size={self.min_size} cells in an image, found {count} or more; the largest stay, the pixels of the others '
                f'join {"one that they touch, or are dropped" if self.connected else "the nearest"}. The embeddings are '
                'scattered, as early in a training or after it has diverged; if an image does hold so many objects, raise '
                'max_groups of the grouper',
                stacklevel=2,
            )


def join_touching(embeddings_Dhw: Tensor, labels_hw: Tensor, small_hw: Tensor, region_hw: Tensor, norm: float) -> None:
    """Joins each small group to the group of its region that it touches and whose mean embedding is nearest, in place.

    A group touches another one where a pixel of it has a pixel of the other among its eight neighbours. Small groups that
    touch only small ones come next: they touch the groups that those have joined, and so on. Small groups that touch none in the
    end stay without. Means are those of the groups before anything joins, compared with that of the small group; among equals the
    group with the lowest number is taken. A mean that is not finite is farther than all others.

    Time: one pass over the pairs of touching groups, of which there are at most eight a pixel. Peak memory above the inputs: a
    few integers for each pair, the means of all groups, and the differences of those means that are compared in one step.

    Args:
        embeddings_Dhw: (D, h, w) float.
        labels_hw: (h, w) int64 groups 1 .. K, 0 = none; changed in place.
        small_hw: (h, w) int64 small groups 1 .. L, 0 = none, where ``labels_hw`` is 0.
        region_hw: (h, w) int64.
        norm: order of the norm in which embeddings are compared.

    Example:
        >>> labels, small = torch.tensor([[1, 1, 0, 0, 2]]), torch.tensor([[0, 0, 1, 2, 0]])
        >>> join_touching(torch.tensor([[[0.0, 0.0, 1.0, 9.0, 9.0]]]), labels, small, torch.ones_like(labels), norm=2.0)
        >>> labels
        tensor([[1, 1, 1, 2, 2]])
    """
    count, small_count = int(labels_hw.max()), int(small_hw.max())
    if count == 0 or small_count == 0:
        return
    # One numbering for all: groups 1 .. count, small groups from count + 1.
    united_hw = torch.where(small_hw > 0, small_hw + count, labels_hw)
    mean_KD = group_means(embeddings_Dhw, united_hw, count + small_count)
    # The group that each has joined; 0 for small groups that have not joined one.
    joined_K = torch.arange(count + small_count + 1, device=labels_hw.device)
    joined_K[count + 1 :] = 0
    first_Q, second_Q = _touching_pairs(united_hw, region_hw)
    pairs_K = torch.bincount(first_Q, minlength=len(joined_K))
    start_K = pairs_K.cumsum(0) - pairs_K
    # Only neighbours of the last ones to join: those of earlier ones have been processed.
    new_N = joined_K[1 : count + 1]
    while len(new_N):
        pairs_N = pairs_K[new_N]
        new_R = new_N.repeat_interleave(pairs_N)
        offset_R = (start_K[new_N] - pairs_N.cumsum(0) + pairs_N).repeat_interleave(pairs_N)
        small_R = second_Q[offset_R + torch.arange(len(new_R), device=new_R.device)]
        open_R = joined_K[small_R] == 0
        small_R, group_R = small_R[open_R], joined_K[new_R[open_R]]
        distance_R = torch.linalg.vector_norm(mean_KD[small_R - 1] - mean_KD[group_R - 1], ord=norm, dim=1)
        distance_R = distance_R.nan_to_num(nan=torch.inf, posinf=torch.inf)
        new_N, index_R = small_R.unique(return_inverse=True)
        nearest_N = distance_R.new_full(new_N.shape, torch.inf).scatter_reduce(0, index_R, distance_R, reduce='amin')
        best_R = distance_R == nearest_N[index_R]
        # Their own numbers are higher than those of all groups.
        joined_K[new_N] = new_N.scatter_reduce(0, index_R[best_R], group_R[best_R], reduce='amin')
    labels_hw.copy_(joined_K[united_hw])


def _touching_pairs(labels_hw: Tensor, region_hw: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of labels above 0 with neighbouring pixels of one region, in both orders, each once, sorted: first, second, (Q,)."""
    height, width = labels_hw.shape
    span = int(labels_hw.max()) + 1
    codes = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        rows, other_rows = slice(0, height - down), slice(down, height)
        columns = slice(max(0, -right), width - max(0, right))
        other_columns = slice(max(0, right), width - max(0, -right))
        first_hw, second_hw = labels_hw[rows, columns], labels_hw[other_rows, other_columns]
        touch_hw = (first_hw > 0) & (second_hw > 0) & (first_hw != second_hw)
        touch_hw &= region_hw[rows, columns] == region_hw[other_rows, other_columns]
        first_P, second_P = first_hw[touch_hw], second_hw[touch_hw]
        codes += [first_P * span + second_P, second_P * span + first_P]
    code_Q = torch.cat(codes).unique()
    return torch.div(code_Q, span, rounding_mode='floor'), code_Q % span


def _largest(size_K: Tensor, count: int) -> Tensor:
    """Marks the labels of the ``count`` largest groups by their sizes: (K,) bool; never an empty group, nor entry 0 (no
    group)."""
    size_K = size_K.clone()
    size_K[0] = 0
    # A stable sort: of groups of equal size, the one found first is kept.
    order_K = torch.sort(size_K, descending=True, stable=True).indices
    return (size_K > 0).index_fill_(0, order_K[count:], False)
