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
    own_N = torch.linalg.vector_norm(x_ND - center_KD.index_select(0, label_N), ord=norm, dim=1)
    other_N = _nearest_other(x_ND, label_N, own_N, center_KD, region_K, scale, norm)
    value_N = (1 - own_N / other_N.clamp(min=torch.finfo(own_N.dtype).tiny)).clamp(min=0)
    sum_K = torch.zeros(count, dtype=value_N.dtype, device=value_N.device).index_add_(0, label_N, value_N)
    return sum_K / torch.bincount(label_N, minlength=count).clamp(min=1)


def _nearest_other(
    x_ND: Tensor, label_N: Tensor, own_N: Tensor, center_KD: Tensor, region_K: Tensor, scale: float, norm: float
) -> Tensor:
    """Distance of each pixel to the nearest mean of another group of its region, at most ``scale``: (N,).

    The other means are tried in the order of their distances to the mean of the pixel's group. By the triangle inequality a pixel
    needs no more of them as soon as that distance exceeds the nearest so far by the pixel's distance to its own mean.
    """
    other_N = torch.full_like(own_N, scale)
    widest_K = own_N.new_zeros(len(center_KD)).scatter_reduce(0, label_N, own_N, 'amax')
    first_Q, second_Q, apart_Q = _near_pairs(center_KD, region_K, widest_K + scale, norm)
    count_K = torch.bincount(first_Q, minlength=len(center_KD))
    start_K = count_K.cumsum(0) - count_K
    pixel_M, tried = torch.arange(len(x_ND), device=x_ND.device), 0
    while True:
        label_M = label_N.index_select(0, pixel_M)
        has_more_M = (tried < count_K).index_select(0, label_M).nonzero().squeeze(1)
        pixel_M, label_M = pixel_M.index_select(0, has_more_M), label_M.index_select(0, has_more_M)
        pair_M = start_K.index_select(0, label_M) + tried
        least_M = apart_Q.index_select(0, pair_M) - own_N.index_select(0, pixel_M)
        open_M = (least_M < other_N.index_select(0, pixel_M)).nonzero().squeeze(1)
        if len(open_M) == 0:
            return other_N
        pixel_M = pixel_M.index_select(0, open_M)
        center_MD = center_KD.index_select(0, second_Q.index_select(0, pair_M.index_select(0, open_M)))
        distance_M = torch.linalg.vector_norm(x_ND.index_select(0, pixel_M).sub_(center_MD), ord=norm, dim=1)
        other_N[pixel_M] = torch.minimum(distance_M, other_N.index_select(0, pixel_M))
        tried += 1


def _near_pairs(center_KD: Tensor, region_K: Tensor, radius_K: Tensor, norm: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of different means of one region, the second within the radius of the first, sorted by the first and then by their
    distance: first, second and distance, (Q,) each."""
    pairs = []
    for block in torch.arange(len(center_KD), device=center_KD.device).split(max(1, _BLOCK // len(center_KD))):
        distance_BK = torch.cdist(center_KD[block], center_KD, p=norm, compute_mode='donot_use_mm_for_euclid_dist')
        near_BK = (region_K[block][:, None] == region_K) & (distance_BK < radius_K[block][:, None])
        near_BK[torch.arange(len(block), device=block.device), block] = False
        row_Q, second_Q = near_BK.nonzero(as_tuple=True)
        pairs.append((block[row_Q], second_Q, distance_BK[row_Q, second_Q]))
    first_Q, second_Q, distance_Q = (torch.cat(values) for values in zip(*pairs, strict=True))
    order_Q = distance_Q.argsort(stable=True)
    order_Q = order_Q[first_Q[order_Q].argsort(stable=True)]
    return first_Q[order_Q], second_Q[order_Q], distance_Q[order_Q]


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
