"""Which embeddings count in one another's kernel means: mean shift then leaves out the pairs that cannot."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_SAMPLE = 1024
"""Clumps are looked for among so many embeddings: one of a hundredth of all has about ten of them."""

_LEAST_SAMPLED = 3
"""Fewer embeddings of the sample than this make no clump."""

_MOST_CLUMPS = 64

_BLOCK = 1 << 21
"""Distances to the clumps are computed in blocks of this many values: 8 MB."""

_LARGEST_SHARE = 0.7
"""Of all pairs: where more than this would count, leaving out the others is not worth the copies."""


class Neighbourhood(NamedTuple):
    """Some embeddings, and those that count for them.

    member_Q: indices of the embeddings, in any order; each embedding is a member of one neighbourhood.
    key_R: indices of those whose kernel reaches them.
    log_scale_R: logarithm of how many embeddings each of ``key_R`` stands for; ``None`` for itself alone.
    """

    member_Q: Tensor
    key_R: Tensor
    log_scale_R: Tensor | None


def neighbourhoods(
    x_ND: Tensor,
    bandwidth: float,
    reach: float,
    *,
    counts_N: Tensor | None = None,
    log_mass_N: Tensor | None = None,
    max_keys: int | None = None,
) -> list[Neighbourhood]:
    """Splits embeddings into clumps and strays, and leaves out, clump by clump, what lies beyond the kernel's reach.

    A clump is a ball of two bandwidths around a spot that is crowded in a sample of the embeddings; embeddings in no
    clump are strays. What farther than ``reach`` lies from every member of a clump is no key of it; the strays have all
    embeddings for keys. So no pair within reach is ever left out, whatever the embeddings look like; only how many pairs
    are left depends on it. Chosen by the embeddings' values alone, not by their order.

    Time: one pass over embeddings x clumps (at most 64). Peak memory above the input: about 10 MB, and the result, linear
    in N for as many clumps as touch each other.

    Args:
        x_ND: (N, D) finite embeddings.
        bandwidth: of the kernel, in units of the embedding.
        reach: in units of the embedding, so far that no sum of kernels from beyond it counts.
        counts_N: (N,) bool: others are never in a clump. They have all keys.
        log_mass_N: (N,) logarithm of how much each embedding counts; only looked at with ``max_keys``.
        max_keys: let so many members of a clump, and for a clump so many of the strays within reach, stand for all of
            them as keys: the heaviest ones, and among equals those that a hash of their values chooses; ``None`` for
            all. The strays themselves have all strays for keys.

    Returns:
        The clumps, and the strays at the end; nothing where nothing would be gained.

    Example:
        >>> x = torch.cat([torch.zeros(6000, 2), torch.ones(2000, 2) * 5])
        >>> [(len(n.member_Q), len(n.key_R)) for n in neighbourhoods(x, bandwidth=0.1, reach=0.7)]
        [(6000, 6000), (2000, 2000)]
    """
    hash_N = _hash(x_ND)
    x_ND = x_ND - x_ND.mean(0)  # products of small numbers round less
    center_KD = _crowded_spots(x_ND, 2 * bandwidth, hash_N, counts_N)
    if len(center_KD) == 0:
        return []

    nearest = [torch.cdist(x_BD, center_KD).min(1) for x_BD in x_ND.split(max(1, _BLOCK // len(center_KD)))]
    distance_N, clump_N = (torch.cat(parts) for parts in zip(*nearest, strict=True))
    inside_N = distance_N <= 2 * bandwidth
    if counts_N is not None:
        inside_N &= counts_N
    clump_N = torch.where(inside_N, clump_N, len(center_KD))
    radius_K = distance_N.new_zeros(len(center_KD) + 1).scatter_reduce_(0, clump_N, distance_N, reduce='amax')[:-1]
    sizes = torch.bincount(clump_N, minlength=len(center_KD) + 1).tolist()
    *members, stray_S = torch.argsort(clump_N, stable=True).split(sizes)

    def gaps(index_Q: Tensor) -> Iterator[Tensor]:
        """How far at least some embeddings lie from the members of each clump, block by block, (B, K)."""
        for index_B in index_Q.split(max(1, _BLOCK // len(center_KD))):
            yield torch.cdist(x_ND[index_B], center_KD) - radius_K

    none = radius_K.new_full((1, len(center_KD)), math.inf)
    gap_KK = torch.cat([torch.cat([none, *gaps(member_Q)]).amin(0, keepdim=True) for member_Q in members])
    near_KK = torch.maximum(gap_KK, gap_KK.T) <= reach
    near_SK = torch.cat([none, *gaps(stray_S)])[1:] <= reach
    kept = [_thin(member_Q, hash_N, log_mass_N, max_keys) for member_Q in members]
    result = []
    for index, (member_Q, near_K) in enumerate(zip(members, near_KK.tolist(), strict=True)):
        if len(member_Q):
            keys = [
                keys
                for other, (keys, is_near) in enumerate(zip(kept, near_K, strict=True))
                if is_near and other != index
            ]
            # Beside those of the clump itself, a choice of the strays around it does.
            keys.append(_thin(stray_S[near_SK[:, index]], hash_N, log_mass_N, max_keys))
            result.append(_join(member_Q, [kept[index], *keys]))
    if len(stray_S):
        result.append(_join(stray_S, [(stray_S, 0.0), *kept]))
    pairs = sum(len(hood.member_Q) * len(hood.key_R) for hood in result)
    return result if pairs <= _LARGEST_SHARE * len(x_ND) ** 2 else []


def _hash(x_ND: Tensor) -> Tensor:
    """A number for each embedding that is as good as random and takes no notice of their order, (N,) int64.

    It is a hash of the embedding's values, and of how many equal ones come before: which of several equal embeddings has
    which number makes no difference.
    """
    bits_ND = x_ND.float().contiguous().view(torch.int32).long()
    factor_D = torch.randint(2**62, (x_ND.shape[1],), generator=torch.Generator().manual_seed(0)) * 2 + 1
    hash_N, order_N = _mix((bits_ND * factor_D.to(x_ND.device)).sum(1)).sort()  # products overflow and wrap around
    _, run_N, length_R = torch.unique_consecutive(hash_N, return_inverse=True, return_counts=True)
    place_N = torch.arange(len(hash_N), device=x_ND.device) - (length_R.cumsum(0) - length_R)[run_N]
    return torch.empty_like(hash_N).scatter_(0, order_N, _mix(hash_N + place_N))


def _mix(number_N: Tensor) -> Tensor:
    """Spreads a change of any bit over all bits."""
    number_N = (number_N ^ (number_N >> 31)) * -7046029254386353131
    return number_N ^ (number_N >> 29)


def _crowded_spots(x_ND: Tensor, radius: float, hash_N: Tensor, counts_N: Tensor | None) -> Tensor:
    """Means of what lies within ``radius`` of the spots where a sample of the embeddings is densest, (K, D)."""
    if counts_N is not None:
        hash_N = hash_N.masked_fill(~counts_N, torch.iinfo(hash_N.dtype).max)
    sample = hash_N.topk(min(_SAMPLE, len(hash_N)), largest=False).indices
    x_SD = x_ND[sample]
    near_SS = (torch.cdist(x_SD, x_SD) <= radius).float()  # 0 and 1: sums of them are matrix products
    free_S = near_SS.new_ones(len(sample)) if counts_N is None else counts_N[sample].float()
    neighbours_S = (near_SS @ free_S) * free_S
    spots = []
    # The most crowded spot first; what it takes crowds no other one.
    while len(spots) < _MOST_CLUMPS:
        most, spot = (int(value) for value in neighbours_S.max(0))
        if most < _LEAST_SAMPLED:
            break
        taken_S = near_SS[spot] * free_S
        free_S = free_S - taken_S
        neighbours_S = (neighbours_S - near_SS @ taken_S) * free_S
        spots.append(taken_S.to(x_SD) @ x_SD / taken_S.sum())
    return torch.stack(spots) if spots else x_SD[:0]


def _thin(index_Q: Tensor, hash_N: Tensor, log_mass_N: Tensor | None, max_keys: int | None) -> tuple[Tensor, float]:
    """Those of some embeddings that are keys, and the logarithm of how many each stands for."""
    if max_keys is None or len(index_Q) <= max_keys:
        return index_Q, 0.0
    key_R = index_Q[hash_N[index_Q].argsort()]
    if log_mass_N is None:
        return key_R[:max_keys], math.log(len(index_Q) / max_keys)
    key_R = key_R[log_mass_N[key_R].argsort(descending=True, stable=True)]
    log_total, log_kept = (log_mass_N[keys].logsumexp(0) for keys in (key_R, key_R[:max_keys]))
    return key_R[:max_keys], float(log_total - log_kept)


def _join(member_Q: Tensor, keys: list[tuple[Tensor, float]]) -> Neighbourhood:
    """keys: their indices and the logarithm of how many each stands for; first those of the members."""
    key_R = torch.cat([indices for indices, _ in keys])
    log_scale_R = None
    if any(log_scale for _, log_scale in keys):
        log_scale_R = torch.cat(
            [torch.full((len(indices),), log_scale, device=key_R.device) for indices, log_scale in keys]
        )
    return Neighbourhood(member_Q, key_R, log_scale_R)
