"""What every grouper shares: the regions in which groups are found, and what happens to them afterwards."""

from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor, nn

from ...structures import IGNORED_CLASS, EmbeddingMargins, group_statistics, renumber, split_components


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
    """

    def __init__(
        self,
        class_agnostic: bool = False,
        background_groups: bool = False,
        connected: bool = False,
        min_size: int = 1,
        max_instances: int | None = None,
    ) -> None:
        super().__init__()
        if min_size < 1:
            raise ValueError(f'expected min_size >= 1 pixel, got {min_size}')
        if max_instances is not None and max_instances < 1:
            raise ValueError(f'expected max_instances >= 1, or None to keep all, got {max_instances}')
        if background_groups and (connected or not class_agnostic):
            raise ValueError(
                'expected background_groups=True with class_agnostic=True and connected=False: within its own class the '
                'background has nothing to be told from'
            )
        self.class_agnostic, self.background_groups, self.connected = class_agnostic, background_groups, connected
        self.min_size, self.max_instances = min_size, max_instances

    @abstractmethod
    def group(self, x_ND: Tensor) -> Tensor:
        """Groups the pixels of one region: (N, D) embeddings, N >= 1, to (N,) labels 1, 2, .."""

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
        return self.group_map(embeddings_Dhw.float(), self.regions(class_map_hw))

    def group_map(self, embeddings_Dhw: Tensor, region_hw: Tensor) -> Tensor:
        """Groups one map, region by region; as :meth:`forward`, of (D, h, w) float32 embeddings and :meth:`regions`."""
        labels_hw = torch.zeros_like(region_hw, dtype=torch.long)
        found = 0
        for region in region_hw.unique().tolist():
            if region == 0:
                continue
            inside_hw = region_hw == region
            label_P = self.group(embeddings_Dhw[:, inside_hw].T)
            labels_hw[inside_hw] = label_P + found
            found += int(label_P.max())
        if self.connected:
            labels_hw = split_components(labels_hw)
        kept_hw = renumber(labels_hw, torch.bincount(labels_hw.reshape(-1)) >= self.min_size)
        if not self.connected:
            _dissolve(embeddings_Dhw, labels_hw, kept_hw, region_hw)
        return self._largest(kept_hw)

    def _largest(self, labels_hw: Tensor) -> Tensor:
        """The ``max_instances`` largest groups."""
        size_K = torch.bincount(labels_hw.reshape(-1))
        size_K[0] = 0
        if self.max_instances is None or int((size_K > 0).sum()) <= self.max_instances:
            return labels_hw
        # A stable order: among equals the one found first stays.
        largest = torch.sort(size_K, descending=True, stable=True).indices[: self.max_instances]
        return renumber(labels_hw, torch.zeros_like(size_K, dtype=torch.bool).index_fill_(0, largest, True))


def _dissolve(embeddings_Dhw: Tensor, labels_hw: Tensor, kept_hw: Tensor, region_hw: Tensor) -> None:
    """Lets pixels whose group was not kept join the group of their region whose mean embedding is nearest, in place."""
    lost_hw = (labels_hw > 0) & (kept_hw == 0)
    if not lost_hw.any() or not kept_hw.any():
        return
    mean_KD, _, region_K = group_statistics(embeddings_Dhw, kept_hw, region_hw)
    for region in region_hw[lost_hw].unique().tolist():
        lost_of_region_hw, kept = lost_hw & (region_hw == region), (region_K == region).nonzero().squeeze(1)
        if len(kept):
            distance_QK = torch.cdist(embeddings_Dhw[:, lost_of_region_hw].T, mean_KD[kept])
            kept_hw[lost_of_region_hw] = kept[distance_QK.argmin(1)] + 1
