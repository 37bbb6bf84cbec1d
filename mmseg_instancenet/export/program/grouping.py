"""Groups of pixels by their embeddings, for predict.py: the groupers of mmseg_instancenet in numpy. docs/methods.md has them.

Arrays end in their axes: H W image, h w map of the network, P pixels, B a block of them, Q some of them or pairs, K groups, D
embedding values, E those of them that are compared.
"""

from collections.abc import Iterator

import numpy as np
from mean_shift import mean_shift_groups

Array = np.ndarray


def find_groups(x_Dhw: Array, x_Ehw: Array, region_hw: Array, g: dict) -> Array:
    """Groups of the map, 0 = none, 1, 2, .. without gaps; those of fewer pixels than ``min_size`` join another one."""
    labels_hw = np.zeros(region_hw.shape, int)
    for one_hw, _ in regions(region_hw, region_hw):
        label_P = group_pixels(x_Dhw[:, one_hw].T, x_Ehw[:, one_hw].T, g)
        label_P[label_P == 0] = label_P.max() + 1 + np.arange((label_P == 0).sum())  # left at max_groups
        labels_hw[one_hw] = label_P + labels_hw.max()
    labels_hw = components(labels_hw) if g['connected'] else labels_hw
    size_K = np.bincount(labels_hw.ravel())
    size_K[0] = 0
    keep_K = size_K >= g['min_size']
    keep_K[np.argsort(-size_K * keep_K, kind='stable')[g['max_groups'] :]] = False
    mean_KE, new_K = means(x_Ehw, labels_hw), keep_K.cumsum() * keep_K
    if g['connected']:  # groups of a region that touch, directly or through others; the one with the nearest mean
        label_2Q, region_2Q = neighbours(labels_hw, region_hw)
        touch_Q = (label_2Q > 0).all(0) & (label_2Q[0] != label_2Q[1]) & (region_2Q[0] == region_2Q[1])
        first, second = np.unique(np.hstack([label_2Q[:, touch_Q], label_2Q[::-1, touch_Q]]), axis=1)
        joined_K = np.arange(len(keep_K)) * keep_K
        while (open_Q := (joined_K[first] > 0) & (joined_K[second] == 0)).any():
            group, part = joined_K[first[open_Q]], second[open_Q]
            order = np.lexsort((group, np.linalg.norm(mean_KE[part - 1] - mean_KE[group - 1], g['norm'], axis=1), part))
            part, index = np.unique(part[order], return_index=True)
            joined_K[part] = group[order][index]
        return new_K[joined_K[labels_hw]]
    for one_hw, label_N in regions(region_hw, labels_hw * keep_K[labels_hw]):  # each pixel the nearest mean
        lost_hw = (region_hw == region_hw[one_hw][0]) & ~one_hw
        labels_hw[lost_hw] = label_N[nearest(x_Ehw[:, lost_hw].T, mean_KE[label_N - 1], g['norm'])[0]]
    return new_K[labels_hw]


def group_pixels(x_PD: Array, x_PE: Array, g: dict) -> Array:
    """Groups of the pixels of one region, 0 = none: by mean shift, around seeds, or around centres drawn at random."""
    if g['type'] == 'MeanShiftGrouping':
        return mean_shift_groups(x_PE, g)
    if g['type'] == 'SeedGrouping':  # the last two values are bandwidth and seed
        radius_P = np.sqrt(-np.log(g['mask_threshold']) / np.exp(x_PD[:, -2].clip(max=40)))
        order_P = np.argsort(-x_PD[:, -1], kind='stable')
        order_P = order_P[1 / (1 + np.exp(-x_PD[order_P, -1])) > g['seed_threshold']]
    else:  # the order of torch.randperm
        radius_P, order_P = np.full(len(x_PE), g['threshold']), np.arange(len(x_PE))
        word_P = np.random.RandomState(g['seed']).randint(2**32, size=len(x_PE), dtype=np.uint32)
        for place, step in enumerate((word_P % np.arange(len(x_PE), 0, -1)).tolist()):
            order_P[place], order_P[place + step] = order_P[place + step], order_P[place]
    sorted_P, label_P, founders = np.argsort(x_PE[:, 0]), np.zeros(len(x_PE), int), []
    first_P = x_PE[sorted_P, 0]

    def around(center_E: Array, radius: float) -> Array:
        # Pixels without a group; only those with a near first value are compared.
        near_Q = sorted_P[slice(*np.searchsorted(first_P, (center_E[0] - radius, center_E[0] + radius)))]
        near_Q = near_Q[label_P[near_Q] == 0]
        return near_Q[np.linalg.norm(x_PE[near_Q] - center_E, g['norm'], axis=1) <= radius]

    for pixel in order_P.tolist():
        while label_P[pixel] == 0 and len(founders) < g['max_groups']:
            inside_Q = np.union1d(around(x_PE[pixel], radius_P[pixel]), pixel)
            for _ in range(100 if g.get('mode') == 'shift' else 0):
                center_E = x_PE[inside_Q].mean(0)
                center_E = center_E / max(np.linalg.norm(center_E), 1e-12) if g['only_directions'] else center_E
                moved_Q = np.sort(around(center_E, radius_P[pixel]))
                if len(moved_Q) == 0 or np.array_equal(moved_Q, inside_Q):
                    break
                inside_Q = moved_Q
            founders.append(pixel)
            label_P[inside_Q] = len(founders)
    if g['type'] == 'SeedGrouping' and len(founders) < g['max_groups']:  # one group, where no pixel is a seed
        left_P, founders = label_P == 0, founders or [0]
        label_P[left_P] = nearest(x_PE[left_P], x_PE[founders], scale_K=1 / radius_P[founders])[0] + 1
    return label_P


def assign(
    x_Ehw: Array,
    mean_KE: Array,
    labels_hw: Array,
    region_hw: Array,
    region_HW: Array,
    row_H: Array,
    column_W: Array,
    norm: float,
) -> Array:
    """Each pixel joins the group of the four cells around it whose mean is nearest; without one, that of the nearest cell."""
    (row_P, column_P), ends = region_HW.nonzero(), []
    place_P2 = np.stack([row_H[row_P], column_W[column_P]], 1)
    for place_P, cells in zip(place_P2.T, labels_hw.shape, strict=True):
        low_P = np.floor(place_P - 0.5)
        ends.append([((low_P + k).clip(0, cells - 1).astype(int), 1 - abs(place_P - 0.5 - low_P - k)) for k in (0, 1)])
    region_P, corners = region_HW[row_P, column_P], [(r, c, v * w) for r, v in ends[0] for c, w in ends[1]]
    weight_4P = np.stack([w * (labels_hw[r, c] > 0) * (region_hw[r, c] == region_P) for r, c, w in corners])
    label_4P = np.stack([labels_hw[r, c] for r, c, _ in corners]) * (weight_4P > 0)
    x_EP = sum(w * x_Ehw[:, r, c] for w, (r, c, _) in zip(weight_4P, corners, strict=True)) / weight_4P.sum(0).clip(
        1e-37
    )
    point_KE = np.vstack([np.full((1, len(x_Ehw)), np.inf), mean_KE])  # no group is infinitely far
    distance_4P = [np.linalg.norm(x_EP - point_KE[label_P].T, norm, axis=0) for label_P in label_4P]
    label_P = np.choose(np.argmin(distance_4P, 0), label_4P)
    for one_hw, _ in regions(region_hw, labels_hw):
        left_P = (label_P == 0) & (region_P == region_hw[one_hw][0])
        label_P[left_P] = labels_hw[one_hw][nearest(place_P2[left_P], np.argwhere(one_hw) + 0.5)[0]]
    labels_HW = np.zeros(region_HW.shape, int)
    labels_HW[row_P, column_P] = label_P
    return labels_HW


def regions(region_hw: Array, labels_hw: Array) -> Iterator[tuple[Array, Array]]:
    """Yields of each region that has groups the pixels with a group, and the groups."""
    for region in np.unique(region_hw[labels_hw > 0]):
        one_hw = (region_hw == region) & (labels_hw > 0)
        yield one_hw, np.unique(labels_hw[one_hw])


def means(x_Ehw: Array, labels_hw: Array) -> Array:
    """Mean embedding of each group, (K, E)."""
    sums = [np.bincount(labels_hw.ravel(), x_hw.ravel())[1:] for x_hw in x_Ehw]
    return np.stack(sums, 1) / np.bincount(labels_hw.ravel())[1:, None].clip(1)


def nearest(
    x_PE: Array, y_KE: Array, norm: float = 2, own_P: Array | None = None, scale_K: Array | float = 1
) -> tuple[Array, Array]:
    """Index of the nearest of K points to each of P, and its distance, in blocks; ``own_P`` does not count for its point."""
    index_P, distance_P, step = np.zeros(len(x_PE), int), np.zeros(len(x_PE)), 1 + 2**20 // y_KE.size
    for block in (slice(start, start + step) for start in range(0, len(x_PE), step)):
        distance_BK = np.linalg.norm(x_PE[block, None] - y_KE, norm, axis=2) * scale_K
        if own_P is not None:
            distance_BK[np.arange(len(distance_BK)), own_P[block]] = np.inf
        index_P[block], distance_P[block] = distance_BK.argmin(1), distance_BK.min(1)
    return index_P, distance_P


def neighbours(*maps: Array) -> list[Array]:
    """The values of each map at all pairs of neighbouring pixels, of eight: (2, Q) each."""
    sides = [(np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])]
    sides += [(np.s_[:-1, :-1], np.s_[1:, 1:]), (np.s_[:-1, 1:], np.s_[1:, :-1])]
    return [np.stack([np.concatenate([x[side[end]].ravel() for side in sides]) for end in (0, 1)]) for x in maps]


def components(labels_hw: Array) -> Array:
    """Connected components of each label above 0, numbered 1, 2, .. in reading order."""
    label_2Q, pixel_2Q = neighbours(labels_hw, np.arange(labels_hw.size).reshape(labels_hw.shape))
    first, second = pixel_2Q[:, (label_2Q[0] == label_2Q[1]) & (label_2Q[0] > 0)]
    root_P, before_P = np.arange(labels_hw.size), None  # the first pixel that each is linked with
    while not np.array_equal(root_P, before_P):
        before_P = root_P.copy()
        np.minimum.at(root_P, before_P[first], before_P[second])
        np.minimum.at(root_P, before_P[second], before_P[first])
        root_P = root_P[root_P]
    is_root_P = (root_P == np.arange(len(root_P))) & (labels_hw.ravel() > 0)
    return (is_root_P.cumsum() * (labels_hw.ravel() > 0))[root_P].reshape(labels_hw.shape)
