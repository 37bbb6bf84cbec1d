"""Grouping around seeds (Neven et al. 2019), one pixel at a time, in numpy."""

import math

import numpy as np


def group_pixel_by_pixel(x, seed_threshold=0.5, mask_threshold=0.5, max_groups=None):
    """The rule of the docstring, one pixel at a time, in numpy float64."""
    position, bandwidth, seed = x[:, :-2], x[:, -2], 1 / (1 + np.exp(-x[:, -1]))

    def mask(founder, pixel):
        return math.exp(-((position[pixel] - position[founder]) ** 2).sum() * math.exp(bandwidth[founder]))

    labels, founders = np.zeros(len(x), int), []
    while True:
        left = [pixel for pixel in range(len(x)) if labels[pixel] == 0]
        if not left or max(seed[pixel] for pixel in left) <= seed_threshold:
            break
        if len(founders) == max_groups:
            return labels
        founders.append(max(left, key=lambda pixel: seed[pixel]))
        for pixel in left:
            if mask(founders[-1], pixel) > mask_threshold:
                labels[pixel] = len(founders)
    for pixel in left:
        # Exponents, since masks far away would all be 0.
        distance = [
            ((position[pixel] - position[founder]) ** 2).sum() * math.exp(bandwidth[founder]) for founder in founders
        ]
        labels[pixel] = 1 + int(np.argmin(distance)) if founders else 1
    return labels
