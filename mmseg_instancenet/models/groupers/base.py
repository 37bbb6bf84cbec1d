"""What every grouper shares: the regions in which groups are found, and what happens to them afterwards."""

import warnings
from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor, nn

from ...structures import (
    IGNORED_CLASS,
    EmbeddingMargins,
    group_statistics,
    renumber,
    split_components,
    unit_vectors,
)

_BLOCK = 1 << 22
"""Distances between pixels and groups are computed in blocks of this many values: 16 MB."""


class Grouper(nn.Module, metaclass=ABCMeta):
    """Turns embeddings and a class map into groups; a child says how the pixels of one region are grouped.

    Args:
        class_agnostic: group all foreground pixels together instead of class by class; the class of a group is then
            the one that most of its pixels have. Goes with ``DiscriminativeLoss(class_agnostic=True)``.
        background_groups: group the background's pixels with the others, and drop a group whose commonest class in the
            class map is the background: where objects end is then the embedding's word. Only with ``class_agnostic``;
            goes with losses in which the background is an instance.
        connected: split groups into 8-connected components. Goes with ``DiscriminativeLoss(push_distance=...)``, after
            which objects far from each other may share an embedding.
        min_size: groups of fewer pixels of the map are dissolved: each pixel joins the group of its region whose mean
            embedding is nearest, since it is more often an outlier than an object. With ``connected`` they are dropped
            as specks.
        max_instances: keep only this many groups of a picture, the largest; ``None`` keeps all.
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
                'expected background_groups=True with class_agnostic=True and connected=False: within its own class the '
                'background has nothing to be told from'
            )
        self.class_agnostic, self.background_groups, self.connected = class_agnostic, background_groups, connected
        self.min_size, self.max_instances, self.max_groups = min_size, max_instances, max_groups
        # How embeddings are compared, for all that happens to groups; a child may set other values.
        self.norm, self.only_directions = 2.0, False
        self._warned_of_groups = False

    @abstractmethod
    def group(self, x_ND: Tensor) -> Tensor:
        """Groups the pixels of one region: (N, D) embeddings, N >= 1, to (N,) labels 1, 2, ..; 0 for a pixel without a group."""

    def check_margins(self, margins: EmbeddingMargins) -> None:
        """Called once with the margins of the loss, where the model knows them."""

    def regions(self, class_map: Tensor) -> Tensor:
        """Within which pixels groups are found: the classes, or 1 for any class if ``class_agnostic``; 0 = nowhere."""
        grouped = (class_map >= (0 if self.background_groups else 1)) & (class_map != IGNORED_CLASS)
        return torch.where(grouped, 1 if self.class_agnostic else class_map, 0)

    def forward(self, embeddings_Dhw: Tensor, class_map_hw: Tensor) -> Tensor:
        """Groups one picture.

        Args:
            embeddings_Dhw: (D, h, w) floating point.
            class_map_hw: (h, w) integers: 0 = background, 255 = ignore; neither is grouped (see ``background_groups``).

        Returns:
            (h, w) int64: 0 = no group, groups numbered 1, 2, .. without gaps, region after region.
        """
        if embeddings_Dhw.dim() != 3 or class_map_hw.shape != embeddings_Dhw.shape[1:]:
            raise ValueError(
                'expected embeddings (D, h, w) and a class map (h, w), got '
                f'{tuple(embeddings_Dhw.shape)} and {tuple(class_map_hw.shape)}'
            )
        return self.group_map(self.prepare(embeddings_Dhw), self.regions(class_map_hw))

    def prepare(self, embeddings_Dhw: Tensor) -> Tensor:
        """Embeddings as this grouper compares them, (D, h, w) float32: of length 1 where only directions count.

        One whose length overflows becomes NaN, which the grouping refuses.
        """
        embeddings_Dhw = embeddings_Dhw.float()
        if not self.only_directions:
            return embeddings_Dhw
        has_length_hw = embeddings_Dhw.norm(dim=0).isfinite()
        return torch.where(has_length_hw, unit_vectors(embeddings_Dhw, dim=0), torch.nan)

    def group_map(self, embeddings_Dhw: Tensor, region_hw: Tensor) -> Tensor:
        """Groups one map, region by region.

        Args:
            embeddings_Dhw: (D, h, w) of :meth:`prepare`.
            region_hw: (h, w) of :meth:`regions`.

        Returns:
            as :meth:`forward`.
        """
        labels_hw = torch.zeros_like(region_hw, dtype=torch.long)
        found, stopped = 0, False
        for region in region_hw.unique().tolist():
            if region == 0:
                continue
            inside_hw = region_hw == region
            label_P = self.group(embeddings_Dhw[:, inside_hw].T)
            labels_hw[inside_hw] = torch.where(label_P > 0, label_P + found, 0)
            found += int(label_P.max())
            stopped = stopped or bool((label_P == 0).any())
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
        if not self.connected:
            self._join_nearest(embeddings_Dhw, kept_hw, region_hw)
        if self.max_instances is None or int(keep_K.sum()) <= self.max_instances:
            return kept_hw
        return renumber(kept_hw, _largest(torch.bincount(kept_hw.reshape(-1)), self.max_instances))

    def _join_nearest(self, embeddings_Dhw: Tensor, kept_hw: Tensor, region_hw: Tensor) -> None:
        """Lets pixels without a group join the group of their region whose mean embedding is nearest, in place."""
        lost_hw = (region_hw > 0) & (kept_hw == 0)
        if not lost_hw.any() or not kept_hw.any():
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
        """Warns once of more groups than ``max_groups``."""
        if not self._warned_of_groups:
            self._warned_of_groups = True
            warnings.warn(
                f'{type(self).__name__}: expected at most max_groups={self.max_groups} groups of at least '
                f'min_size={self.min_size} cells in an image, found {count} or more; the largest stay, the pixels of the others '
                f'{"are dropped" if self.connected else "join the nearest"}. The embeddings are scattered, as early in a '
                'training or after it has diverged; if an image does hold so many objects, raise max_groups of the grouper',
                stacklevel=2,
            )


def _largest(size_K: Tensor, count: int) -> Tensor:
    """Which labels are among the ``count`` largest groups: (K,) bool, by sizes; never one of size 0, nor entry 0 (no group)."""
    size_K = size_K.clone()
    size_K[0] = 0
    # A stable order: among equals the one found first stays.
    order_K = torch.sort(size_K, descending=True, stable=True).indices
    return (size_K > 0).index_fill_(0, order_K[count:], False)
