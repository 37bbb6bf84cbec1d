"""Gao's two post-processings (2020) word by word, in numpy."""

import math

import numpy as np


def plain_group(x, drawn, untagged, threshold, shift, norm, max_shifts=math.inf):
    """The group around one drawn pixel by the paper's two post-processings word by word, in numpy float64."""

    def inside(center):
        return [i for i in untagged if np.linalg.norm(x[i] - center, ord=norm) <= threshold]

    members, shifts = inside(x[drawn]), 0
    while shift and shifts < max_shifts:
        moved = inside(x[members].mean(0))
        if moved == members or not moved:
            break
        members, shifts = moved, shifts + 1
    return members


def group_one_by_one(x, threshold, shift, order, norm, max_shifts=math.inf):
    """Group after group, in the order of the draw."""
    labels = np.zeros(len(x), int)
    for drawn in order:
        while not labels[drawn]:  # the pixel drawn may end outside its group: it is the next untagged one of the order
            untagged = np.flatnonzero(labels == 0).tolist()
            labels[plain_group(x, drawn, untagged, threshold, shift, norm, max_shifts)] = labels.max() + 1
    return labels
