"""Scores of groups from predicted seeds."""

from mmseg.registry import MODELS
from torch import Tensor, nn

from ...structures import GroupStatistics


@MODELS.register_module()
class SeedScorer(nn.Module):
    r"""Scores a group by the mean seed of its pixels, 0 .. 1:

    .. math:: s_k = \frac1{|S_k|} \sum_{i \in S_k} \mathrm{sigmoid}(z_i)

    with :math:`z_i` the last embedding value. ``SoftMaskLoss`` trains the seed to be the soft mask of the pixel's object at that
    pixel, and 0 on the background. Goes with ``SeedGrouping``.

    Example:
        >>> import torch
        >>> from mmseg_instancenet.structures import group_statistics
        >>> labels = torch.tensor([[1, 1, 2, 0]])
        >>> embeddings = torch.tensor([[0.0, 0.0, 9.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 2.0, -1.0, 5.0]])[:, None]
        >>> SeedScorer()(embeddings, labels, group_statistics(embeddings[:1], labels, labels))
        tensor([0.6904, 0.2689])
    """

    def forward(self, embeddings_Dhw: Tensor, labels_hw: Tensor, statistics: GroupStatistics) -> Tensor:
        """Score of each group of a map, (K,) float.

        Args:
            embeddings_Dhw: (D, h, w) float, the logit of the seed last.
            labels_hw: (h, w) int64: 0 = none, groups 1 .. K without gaps.
            statistics: of these groups; see :func:`~mmseg_instancenet.structures.group_statistics`.
        """
        size_K = statistics.size_K
        label_P, seed_P = labels_hw.reshape(-1), embeddings_Dhw[-1].sigmoid().reshape(-1)
        sum_L = seed_P.new_zeros(len(size_K) + 1).index_add_(0, label_P, seed_P)  # entry 0: pixels without a group
        return sum_L[1:] / size_K
