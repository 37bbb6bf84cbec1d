"""Groups of embeddings by mean shift, for grouping.py: MeanShiftGrouping of mmseg_instancenet in numpy. docs/methods.md has it.

Arrays end in their axes: P pixels, M embeddings after merging, K places, B a block of them, S a sample, E embedding values.
"""

import numpy as np

Array = np.ndarray
BLOCK = 2**22  # values of a block of pairs


def mean_shift_groups(x_PE: Array, g: dict) -> Array:
    """Groups 1, 2, .. of the pixels: iterations in which each moves to the mean of those near it, until they rest."""
    bandwidth = g['concentration'] ** -0.5
    # float32 does not tell embeddings apart that spread over very many bandwidths; directions never do.
    spread = 0 if g['only_directions'] else np.linalg.norm(np.ptp(x_PE, axis=0).astype(float)) / bandwidth
    if spread > 6.9e7:
        raise ValueError(f'expected embeddings within 6.9e7 bandwidths, got {spread:.3g}: the training has diverged')
    all_PE = x_PE.astype(np.float64 if spread > 3000 else np.float32)
    x_ME, mass_M, place_P = all_PE, np.ones(len(x_PE)), np.arange(len(x_PE))
    if len(x_PE) >= 4096:  # dense clusters that lie apart go on as one embedding each
        x_ME, mass_M, place_P = merge(all_PE, mass_M, cores(all_PE, bandwidth, g))
    next_test = 1
    for loop in range(1, g['max_loops'] + 1):
        before_ME, exact = x_ME, loop == 1 and len(x_ME) * all_PE.size <= 2**27
        x_ME = shift(x_ME, all_PE, np.ones(len(all_PE)), g) if exact else iteration(x_ME, mass_M, g)
        if loop < next_test:
            continue
        next_test = loop + max(1, loop // 2)
        if np.linalg.norm(x_ME - before_ME, axis=1).max() <= g['tolerance'] * bandwidth:
            break
        if len(x_ME) > 64:
            x_ME, mass_M, new_M = merge(x_ME, mass_M, cells(x_ME, bandwidth / max(8, x_PE.shape[1] ** 0.5)))
            place_P = new_M[place_P]
    # Embeddings closer than the bandwidth, directly or through others, are one group.
    x_ME = x_ME.astype(float) - x_ME.astype(float).mean(0)
    mean_ME, _, cell_M = merge(x_ME, np.ones(len(x_ME)), cells(x_ME, bandwidth / (16 * x_PE.shape[1] ** 0.5)))
    group_P = linked(mean_ME, bandwidth)[cell_M[place_P]]
    _, first_K, number_P = np.unique(group_P, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first_K))[number_P.ravel()] + 1  # in order of the first pixel


def iteration(x_ME: Array, mass_M: Array, g: dict) -> Array:
    """All embeddings attract all. Of very many, the heaviest do, and each other one those of its batch, for all batches."""
    if len(x_ME) <= 12288:
        return shift(x_ME, x_ME, mass_M, g)
    heavy_K, light_M = np.split(np.argsort(-mass_M, kind='stable'), [1024])
    light_M, count, moved_ME = light_M[np.argsort(along(x_ME[light_M]))], -(-len(light_M) // 4096), np.empty_like(x_ME)
    moved_ME[heavy_K] = shift(x_ME[heavy_K], x_ME, mass_M, g)
    for batch_B in (light_M[start::count] for start in range(count)):
        keys = np.concatenate([batch_B, heavy_K])
        moved_ME[batch_B] = shift(
            x_ME[batch_B], x_ME[keys], mass_M[keys] * np.where(np.isin(keys, heavy_K), 1, count), g
        )
    return moved_ME


def along(x_ME: Array) -> Array:
    """Coordinates along a random direction, which those of one cluster have nearly in common."""
    return x_ME @ np.random.RandomState(0).standard_normal(x_ME.shape[1]).astype(x_ME.dtype)


def shift(x_ME: Array, key_PE: Array, mass_P: Array, g: dict) -> Array:
    """One iteration: each of M moves to the mean of the keys, weighted by kernel and mass."""
    concentration, origin_E = g['concentration'], 0 if g['only_directions'] else key_PE.mean(0)
    key_PE, bias_P = key_PE - origin_E, np.log(mass_P)
    if not g['only_directions']:
        bias_P = bias_P - concentration / 2 * (key_PE**2).sum(1)
    bias_P, moved_ME, rows = bias_P.astype(key_PE.dtype), np.empty_like(x_ME), 1 + BLOCK // len(key_PE)
    for block in (slice(start, start + rows) for start in range(0, len(x_ME), rows)):
        weight_BP = (x_ME[block] - origin_E) @ (key_PE.T * np.asarray(concentration, key_PE.dtype)) + bias_P
        np.exp(weight_BP - weight_BP.max(1, keepdims=True), out=weight_BP)
        mean_BE = weight_BP @ key_PE / weight_BP.sum(1, keepdims=True) + origin_E
        moved_ME[block] = g['step_size'] * mean_BE + (1 - g['step_size']) * x_ME[block]
    if g['only_directions']:
        moved_ME /= np.linalg.norm(moved_ME, axis=1, keepdims=True).clip(1e-12)
    return moved_ME


def cores(x_PE: Array, bandwidth: float, g: dict) -> Array:
    """A number for each of P: that of the dense cluster in which it lies, or its own, see merge_cores of mmseg_instancenet."""
    order_P = np.argsort(along(x_PE))
    sample_SE = x_PE[order_P[(np.arange(1024) * len(x_PE) + len(x_PE) // 2) // 1024]]
    once_SE = shift(sample_SE, sample_SE, np.ones(1024), g)
    twice_SE = shift(once_SE, once_SE, np.ones(1024), g)
    rest_S = np.linalg.norm(twice_SE - once_SE, axis=1) <= bandwidth / 2
    sample_SE, twice_SE, number_P = sample_SE[rest_S], twice_SE[rest_S], np.arange(len(x_PE)) + 1024
    if not len(twice_SE):
        return number_P
    mean_KE, mass_K, place_S = merge(twice_SE, np.ones(len(twice_SE)), cells(twice_SE, bandwidth / 2))
    noise = (((sample_SE - mean_KE[place_S]) ** 2).sum() / max(1, (mass_K - 1).sum())) ** 0.5
    radius = np.clip(1.5 * noise, bandwidth / 8, bandwidth * min(0.6 * x_PE.shape[1] ** 0.5, 2))
    mean_KE, mass_K = mean_KE[mass_K >= 2], mass_K[mass_K >= 2]
    distance_KK = np.linalg.norm(mean_KE[:, None] - mean_KE, axis=2)
    first_K = ((distance_KK <= bandwidth) * mass_K).argmax(1) == np.arange(len(mass_K)) if len(mass_K) else mass_K > 0
    rival_KK = (
        (distance_KK <= 6 * bandwidth) & (8 * mass_K > mass_K[:, None]) & first_K & ~np.eye(len(mass_K), dtype=bool)
    )
    mean_KE = mean_KE[first_K & ~rival_KK.any(1)]
    if not len(mean_KE):
        return number_P
    nearest_P = (x_PE @ mean_KE.T - (mean_KE**2).sum(1) / 2).argmax(1)
    return np.where(np.linalg.norm(x_PE - mean_KE[nearest_P], axis=1) <= radius, nearest_P, number_P)


def cells(x_ME: Array, edge: float) -> Array:
    """A number for each of M, the same for those in one cube of a grid."""
    return np.unique(np.floor(x_ME / edge + 0.5), axis=0, return_inverse=True)[1].ravel()


def merge(x_ME: Array, mass_M: Array, number_M: Array) -> tuple[Array, Array, Array]:
    """Merges embeddings with the same number: their means, masses, and which one each has become."""
    _, new_M = np.unique(number_M, return_inverse=True)
    new_M, origin_E = new_M.ravel(), x_ME.mean(0)
    mass_K = np.bincount(new_M, mass_M)
    sums = [np.bincount(new_M, mass_M * x_M) for x_M in (x_ME - origin_E).T]
    return (np.stack(sums, 1) / mass_K[:, None] + origin_E).astype(x_ME.dtype), mass_K, new_M


def linked(x_ME: Array, radius: float) -> Array:
    """The smallest index among those that each of M is linked with by steps of at most ``radius``."""
    label_M, before_M, rows = np.arange(len(x_ME)), None, 1 + BLOCK // x_ME.size
    while not np.array_equal(label_M, before_M):
        before_M = label_M.copy()
        for start in range(0, len(x_ME), rows):
            near_BM = np.linalg.norm(x_ME[start : start + rows, None] - x_ME, axis=2) <= radius
            lowest_B = np.where(near_BM, label_M, len(x_ME)).min(1)
            np.minimum.at(label_M, before_M[start : start + rows], lowest_B)
        label_M = label_M[label_M]
    return label_M
