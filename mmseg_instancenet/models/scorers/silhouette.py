"""Scores of groups from their embeddings."""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...structures import GroupStatistics

_BLOCK = 1 << 22
"""Distances between pixels and groups are computed in blocks of this many values: 16 MB."""


def silhouette(
    x_ND: Tensor, label_N: Tensor, center_KD: Tensor, region_K: Tensor, scale: float, norm: float = 2.0
) -> Tensor:
    r"""Mean simplified silhouette of each group, 0 .. 1 (Hruschka et al. 2004).

    With :math:`a_i` the distance of pixel i to the mean of its own group and :math:`b_i` that to the nearest other
    group of its region, at most ``scale``:

    .. math:: s_k = \frac1{|S_k|} \sum_{i \in S_k} \left[1 - a_i / b_i\right]_+

    1 where a group is a point far from all others, 0 where its pixels lie as near to another group.

    Args:
        x_ND: (N, D) embeddings of the grouped pixels.
        label_N: (N,) group of each, 0 .. K-1.
        center_KD: (K, D) mean of each group.
        region_K: (K,) region in which each was found; groups of other regions do not count as others.
        scale: distance, in units of the embedding, beyond which another group is far.
        norm: order of the norm of all distances.

    Example:
        >>> x = torch.tensor([[0.0], [0.2], [4.0]])
        >>> label = torch.tensor([0, 0, 1])
        >>> silhouette(x, label, torch.tensor([[0.1], [4.0]]), torch.tensor([1, 1]), scale=1.0)
        tensor([0.9000, 1.0000])
    """
    count = len(center_KD)
    own_N = torch.linalg.vector_norm(x_ND - center_KD[label_N], ord=norm, dim=1)
    other_N = torch.full_like(own_N, scale)
    for block in torch.arange(len(x_ND), device=x_ND.device).split(max(1, _BLOCK // max(1, count))):
        distance_BK = torch.cdist(x_ND[block], center_KD, p=norm)
        label_B = label_N[block]
        apart_BK = region_K[label_B][:, None] != region_K[None, :]
        apart_BK[torch.arange(len(block), device=x_ND.device), label_B] = True
        nearest_B = distance_BK.masked_fill_(apart_BK, scale).amin(1)
        other_N[block] = nearest_B.clamp(max=scale)
    value_N = (1 - own_N / other_N.clamp(min=torch.finfo(own_N.dtype).tiny)).clamp(min=0)
    sum_K = torch.zeros(count, dtype=value_N.dtype, device=value_N.device).index_add_(0, label_N, value_N)
    return sum_K / torch.bincount(label_N, minlength=count).clamp(min=1)


@MODELS.register_module()
class SilhouetteScorer(nn.Module):
    r"""Scores the groups of a map by their :func:`silhouette`, lowered for small groups, whose silhouettes are often
    high by chance.

    .. math:: g_k = s_k \frac{n_k}{n_k + n_0}

    with :math:`s_k` the silhouette, :math:`n_k` the number of pixels of the map and :math:`n_0` = ``half_size``. Pixels that
    fell between two objects make up groups that are small and, without a neighbour, have a perfect silhouette.

    Args:
        scale: see :func:`silhouette`; the push margin of the loss is a good value.
        half_size: number of pixels of the map at which size halves the score; 0 uses the silhouette alone.
    """

    def __init__(self, scale: float = 3.0, half_size: float = 8.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f'expected a scale > 0 in units of the embedding, got {scale}')
        if half_size < 0:
            raise ValueError(f'expected half_size >= 0 pixels, got {half_size}')
        self.scale, self.half_size = scale, half_size

    def forward(self, embeddings_Dhw: Tensor, labels_hw: Tensor, statistics: GroupStatistics) -> Tensor:
        """Score of each group of a map, (K,) float.

        Args:
            embeddings_Dhw: (D, h, w) float, of which the first E are compared; see :meth:`Grouper.compared`.
            labels_hw: (h, w) int64: 0 = none, groups 1 .. K without gaps.
            statistics: of these groups by the E values; see :func:`~mmseg_instancenet.structures.group_statistics`.
        """
        mean_KE, size_K, region_K, norm = statistics
        if len(size_K) == 0:
            return embeddings_Dhw.new_zeros(0)
        label_P = labels_hw.reshape(-1)
        inside_P = label_P > 0
        x_PE = embeddings_Dhw[: mean_KE.shape[1]].flatten(1).T
        silhouette_K = silhouette(x_PE[inside_P], label_P[inside_P] - 1, mean_KE, region_K, self.scale, norm)
        return silhouette_K * size_K / (size_K + self.half_size)
