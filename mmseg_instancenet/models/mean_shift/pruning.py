r"""Pruning for mean shift: skips pairs whose kernel value is negligible.

Most embeddings lie in a few dense places, and kernel values fall off with distance, so most pairs contribute nothing::

       cluster A                  cluster B                                   cluster C
      .  o o  .                   .  o o  .                                   .  o o  .
     ( o o o o )       x   x     ( o o o o )                     x           ( o o o o )
      '  o o  '                   '  o o  '                                   '  o o  '
               |<------------ reach ------------>|

A *cluster* is a ball of two bandwidths around a dense place. Its members (o) share one set of keys, those that attract them:
every embedding that may lie within *reach* of any of them. For A these are the members of A and B and the two outliers between
them; C and the outlier beside it are skipped. *Outliers* (x) lie in no cluster; they are few, and all embeddings are their keys.
A large set of keys is *thinned*: its ``max_keys`` heaviest embeddings represent it, with the mass of the whole set. A cluster
(or the outliers) and its keys are a *neighbourhood*. All of this depends on the embeddings' values, not on their order.

Shapes besides those of ``structures``: K clusters, Q members, R keys, S outliers or embeddings of a sample.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_NEGLIGIBLE = 1e-3
"""Share of a kernel mean that keys beyond reach may have; thinning changes means more than that."""

_SAMPLE = 1024
"""Dense places are found in a sample of this size: a cluster of a hundredth of all embeddings has about ten of them."""

_LEAST_SAMPLED = 3
"""A place with fewer embeddings of the sample than this is not dense."""

_MOST_CLUSTERS = 64

_LARGEST_SHARE = 0.7
"""Where more than this share of all pairs remained, skipping the others would not repay the copies of the keys."""


class Neighbourhood(NamedTuple):
    """A set of embeddings with a common set of keys.

    member_Q: indices of the embeddings, in any order; each embedding is a member of one neighbourhood.
    key_R: indices of the embeddings that attract them.
    log_mass_R: logarithm of the keys' masses, after thinning.
    """

    member_Q: Tensor
    key_R: Tensor
    log_mass_R: Tensor


def reach_of(log_mass_P: Tensor, bandwidth: float) -> float:
    r"""Distance d beyond which all kernel values together are negligible, in units of the embedding.

    An embedding attracts itself with its own mass m, so that d satisfies

    .. math:: e^{-d^2 / (2 h^2)} \sum_j m_j = 0.001 \min_i m_i \quad\text{for a bandwidth } h.

    Example:
        >>> round(reach_of(torch.zeros(1000), bandwidth=0.1), 3)  # sqrt(2 log(1e6)) bandwidths
        0.526
    """
    return bandwidth * math.sqrt(2 * (float(log_mass_P.logsumexp(0) - log_mass_P.min()) - math.log(_NEGLIGIBLE)))


@torch.no_grad()
@torch.autocast('cpu', enabled=False)
def neighbourhoods(
    x_PD: Tensor,
    log_mass_P: Tensor,
    bandwidth: float,
    reach: float,
    max_keys: int,
    is_outlier_P: Tensor | None = None,
) -> list[Neighbourhood]:
    """Splits embeddings into clusters and outliers, and finds the keys of each; no pair within reach is skipped.

    See the top of the file. Where the embeddings lie decides how many pairs remain, never whether one within reach does.

    Time: P K distances, K <= 64. Peak memory above the input: these distances, and the result, linear in P.

    Args:
        x_PD: (P, D) finite embeddings on a CPU.
        log_mass_P: (P,) logarithm of their masses.
        bandwidth: of the kernel, in units of the embedding.
        reach: distance beyond which a kernel value is negligible: :func:`reach_of`.
        max_keys: largest number of keys from one cluster, and for a cluster from the outliers around it. Among equal masses
            a hash of the embeddings' values chooses. The outliers have all outliers for keys.
        is_outlier_P: (P,) bool, embeddings that are outliers wherever they lie.

    Returns:
        The clusters, then the outliers; an empty list where pruning would not save time.

    Example:
        >>> x = torch.cat([torch.zeros(6000, 2), torch.ones(2000, 2) * 5])
        >>> clusters = neighbourhoods(x, torch.zeros(8000), bandwidth=0.1, reach=0.7, max_keys=1000)
        >>> [(len(n.member_Q), len(n.key_R), round(float(n.log_mass_R.exp().sum()))) for n in clusters]
        [(6000, 1000, 6000), (2000, 1000, 2000)]
    """
    hash_P = _hash(x_PD)
    x_PD = x_PD - x_PD.mean(0)  # products of small numbers round less
    if is_outlier_P is None:
        is_outlier_P = torch.zeros(len(x_PD), dtype=torch.bool)
    center_KD = _dense_places(x_PD, 2 * bandwidth, hash_P, is_outlier_P)
    if len(center_KD) == 0:
        return []
    distance_PK = torch.cdist(x_PD, center_KD)
    distance_P, cluster_P = distance_PK.min(1)
    is_outlier_P = is_outlier_P | (distance_P > 2 * bandwidth)
    used, cluster_P = torch.unique(cluster_P.masked_fill(is_outlier_P, len(center_KD)), return_inverse=True)
    used = used[used < len(center_KD)]  # a centre nearest to no embedding is no cluster
    if len(used) == 0:
        return []
    *members, outlier_S = cluster_P.argsort(stable=True).split(
        torch.bincount(cluster_P, minlength=len(used) + 1).tolist()
    )

    # From an embedding, no member of a cluster is nearer than the cluster's centre less its radius.
    radius_K = torch.stack([distance_P[member_Q].amax() for member_Q in members])
    gap_KK = torch.stack([distance_PK[member_Q].amin(0) for member_Q in members])[:, used] - radius_K
    is_near_KK = torch.maximum(gap_KK, gap_KK.T) <= reach
    is_near_SK = distance_PK[outlier_S][:, used] - radius_K <= reach

    def thin(index_Q: Tensor) -> tuple[Tensor, Tensor]:
        return _thin(index_Q, log_mass_P, hash_P, max_keys)

    cluster_keys = [thin(member_Q) for member_Q in members]
    result = []
    for cluster, member_Q in enumerate(members):
        near = [cluster_keys[other] for other in is_near_KK[cluster].nonzero().squeeze(1).tolist()]
        result.append(_neighbourhood(member_Q, [*near, thin(outlier_S[is_near_SK[:, cluster]])]))
    if len(outlier_S):
        result.append(_neighbourhood(outlier_S, [(outlier_S, log_mass_P[outlier_S]), *cluster_keys]))
    pairs = sum(len(part.member_Q) * len(part.key_R) for part in result)
    return result if pairs <= _LARGEST_SHARE * len(x_PD) ** 2 else []


def _dense_places(x_PD: Tensor, radius: float, hash_P: Tensor, is_outlier_P: Tensor) -> Tensor:
    """Mean embeddings at dense places: within ``radius`` of the samples with the most neighbours, (K, D)."""
    chance_P = hash_P.masked_fill(is_outlier_P, torch.iinfo(hash_P.dtype).max)
    sample_S = chance_P.topk(min(_SAMPLE, len(x_PD)), largest=False).indices
    x_SD, free_S = x_PD[sample_S], (~is_outlier_P[sample_S]).float()
    is_near_SS = (torch.cdist(x_SD, x_SD) <= radius).float()  # 0 and 1: sums of them are matrix products
    count_S = (is_near_SS @ free_S) * free_S
    places: list[Tensor] = []
    # The densest place first; the embeddings around it no longer count for others.
    while len(places) < _MOST_CLUSTERS and float(count_S.max()) >= _LEAST_SAMPLED:
        taken_S = is_near_SS[count_S.argmax()] * free_S
        places.append(taken_S.to(x_SD) @ x_SD / taken_S.sum())
        free_S = free_S - taken_S
        count_S = (count_S - is_near_SS @ taken_S) * free_S
    return torch.stack(places) if places else x_SD[:0]


def _thin(index_Q: Tensor, log_mass_P: Tensor, hash_P: Tensor, max_keys: int) -> tuple[Tensor, Tensor]:
    """Indices of the ``max_keys`` embeddings with the largest mass, and their log masses, scaled to the total mass of
    all."""
    if len(index_Q) <= max_keys:
        return index_Q, log_mass_P[index_Q]
    by_hash_Q = index_Q[hash_P[index_Q].argsort()]
    key_R = by_hash_Q[log_mass_P[by_hash_Q].argsort(descending=True, stable=True)][:max_keys]
    log_mass_R = log_mass_P[key_R]
    return key_R, log_mass_R + log_mass_P[index_Q].logsumexp(0) - log_mass_R.logsumexp(0)


def _neighbourhood(member_Q: Tensor, keys: list[tuple[Tensor, Tensor]]) -> Neighbourhood:
    indices, log_masses = zip(*keys, strict=True)
    return Neighbourhood(member_Q, torch.cat(indices), torch.cat(log_masses))


def _hash(x_PD: Tensor) -> Tensor:
    """A pseudo-random number for each embedding, independent of their order, (P,) int64.

    It hashes the embedding's values and how many equal embeddings come before it; which of several equal ones gets which number
    makes no difference.
    """
    # numpy's view: torch.jit, by which MMEngine counts operations, cannot trace torch's.
    bits_PD = torch.from_numpy(x_PD.detach().float().contiguous().numpy().view(np.int32)).long()
    factor_D = torch.randint(2**62, (x_PD.shape[1],), generator=torch.Generator().manual_seed(0)) * 2 + 1
    hash_P, order_P = _mix((bits_PD * factor_D).sum(1)).sort()  # products overflow and wrap around
    _, run_P, length_R = torch.unique_consecutive(hash_P, return_inverse=True, return_counts=True)
    place_P = torch.arange(len(hash_P)) - (length_R.cumsum(0) - length_R)[run_P]
    return torch.empty_like(hash_P).scatter_(0, order_P, _mix(hash_P + place_P))


def _mix(number_P: Tensor) -> Tensor:
    """Mixing step of a hash: each input bit affects all output bits."""
    number_P = (number_P ^ (number_P >> 31)) * -7046029254386353131
    return number_P ^ (number_P >> 29)
