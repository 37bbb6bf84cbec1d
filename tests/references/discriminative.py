"""Formulas (1) to (5) of Gao (2020) in loops over Python floats."""

import itertools
import math

INF = float('inf')


def vector_norm(vector, order):
    if order == INF:
        return max(abs(value) for value in vector)
    return sum(abs(value) ** order for value in vector) ** (1 / order)


def difference(first, second):
    return [a - b for a, b in zip(first, second, strict=True)]


def boxes_apart(first_pixels, second_pixels):
    """Pixels between the bounding boxes of two sets of (row, column); side by side is 0."""
    gaps = []
    for axis in (0, 1):
        first, second = [p[axis] for p in first_pixels], [p[axis] for p in second_pixels]
        gaps.append(max(min(first) - max(second) - 1, min(second) - max(first) - 1, 0))
    return math.hypot(*gaps)


def pull_and_push(
    embeddings,
    instance_map,
    class_map,
    pull_margin=0.2,
    push_margin=3.0,
    norm=2,
    squared=False,
    class_agnostic=False,
    background_is_instance=False,
    push_distance=None,
):
    """Formulas (1), (2), (3), summed over the classes of an image and averaged over the images, in Python floats."""
    totals = [0.0, 0.0, 0.0]
    num_images = len(embeddings)
    for x_DHW, ids, classes in zip(
        embeddings.double().tolist(), instance_map.tolist(), class_map.tolist(), strict=True
    ):
        pixels = {}  # class -> id -> positions
        for row, id_row in enumerate(ids):
            for column, id_ in enumerate(id_row):
                class_ = classes[row][column]
                if id_ == -1 or class_ == 255 or (id_ == 0 and not background_is_instance):
                    continue
                pixels.setdefault(0 if class_agnostic else class_, {}).setdefault(id_, []).append((row, column))
        for instances in pixels.values():
            count = len(instances)
            means = {}
            for id_, positions in instances.items():
                vectors = [[plane[row][column] for plane in x_DHW] for row, column in positions]
                mean = [sum(values) / len(vectors) for values in zip(*vectors, strict=True)]
                means[id_] = mean
                hinges = [max(0.0, vector_norm(difference(mean, v), norm) - pull_margin) for v in vectors]
                totals[0] += sum(h**2 if squared else h for h in hinges) / len(vectors) / count
                totals[2] += vector_norm(mean, norm) / count
            pairs = [
                (a, b)
                for a, b in itertools.permutations(instances, 2)
                if push_distance is None or boxes_apart(instances[a], instances[b]) <= push_distance
            ]
            for a, b in pairs:
                hinge = max(0.0, 2 * push_margin - vector_norm(difference(means[a], means[b]), norm))
                totals[1] += (hinge**2 if squared else hinge) / len(pairs)
    return [total / num_images for total in totals]
