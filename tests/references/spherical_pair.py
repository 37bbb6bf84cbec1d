"""Formula (2) of Kong & Fowlkes (2018), and the loss of the authors' code, in double loops over pixels."""

import itertools
import math

import torch


def dot(first, second):
    return sum(a * b for a, b in zip(first, second, strict=True))


def pair_sums(
    embeddings,
    instance_map,
    class_map,
    margin=0.5,
    variant='paper',
    class_agnostic=True,
    background_is_instance=True,
    sample_NHW=None,
):
    """Both parts and their gradients (N, D, H, W), averaged over the images: Python floats, pair by pair.

    The gradients are not derived from the values but written down: of 'paper' that of -s and of s above the margin, of
    'released' that of -s^2 and of [s - margin]+^2.
    """
    num_images, dims, height, width = embeddings.shape
    values, gradients = [0.0, 0.0], torch.zeros(2, num_images, dims, height, width, dtype=torch.float64)
    x_NHWD = embeddings.double().movedim(1, 3).tolist()
    for image in range(num_images):
        pixels, whole_sizes = [], {}
        for row, column in itertools.product(range(height), range(width)):
            id_, class_ = int(instance_map[image, row, column]), int(class_map[image, row, column])
            if id_ == -1 or class_ == 255 or (id_ == 0 and not background_is_instance):
                continue
            instance = (0 if class_agnostic else class_, id_)
            whole_sizes[instance] = whole_sizes.get(instance, 0) + 1
            if sample_NHW is None or bool(sample_NHW[image, row, column]):
                x = x_NHWD[image][row][column]
                length = math.sqrt(dot(x, x))
                pixels.append((instance, row, column, length, [v / length if length else 0.0 for v in x]))
        drawn_sizes = {}
        for instance, *_ in pixels:
            drawn_sizes[instance] = drawn_sizes.get(instance, 0) + 1
        sizes = whole_sizes if variant == 'paper' else drawn_sizes
        pairs = [
            (p, q, 1 / sizes[p[0]] / sizes[q[0]]) for p, q in itertools.product(pixels, pixels) if p[0][0] == q[0][0]
        ]
        normalizer = len(pixels) if variant == 'paper' else sum(weight for _, _, weight in pairs)
        for (instance, row, column, length, x), (other, _, _, other_length, y), weight in pairs:
            cosine = dot(x, y)
            s = (1 + cosine) / 2
            scale = weight / normalizer / num_images
            part = 0 if instance == other else 1
            if variant == 'paper':
                value, slope = (1 - s, -1) if part == 0 else (max(0.0, s - margin), float(s > margin))
            else:
                value, slope = (1 - s * s, -2 * s) if part == 0 else (max(0.0, s - margin) ** 2, 2 * max(0, s - margin))
            values[part] += scale * value
            if length and other_length:
                # Twice: the pair comes in both orders, and this gradient is that of its first pixel.
                for d in range(dims):
                    gradients[part, image, d, row, column] += 2 * scale * slope * (y[d] - cosine * x[d]) / (2 * length)
    return values, gradients
