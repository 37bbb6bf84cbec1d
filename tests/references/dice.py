"""The Dice loss in loops over pixels."""

import math

import torch


def dice_reference(scores, label, eps=1.0, weight=None, ignore_index=255):
    """One minus Dice for each class that is present, in Python floats."""
    num_classes = scores.shape[1]
    both, predicted, true = ([0.0] * num_classes for _ in range(3))
    weight = torch.ones(label.shape) if weight is None else weight
    for n, y, x in torch.cartesian_prod(*map(torch.arange, label.shape)).tolist():
        class_ = label[n, y, x].item()
        if class_ == ignore_index:
            continue
        w = weight[n, y, x].item()
        exponentials = [math.exp(value) for value in scores[n, :, y, x].tolist()]
        for c in range(num_classes):
            p = w * exponentials[c] / sum(exponentials)
            predicted[c] += p
            both[c] += p * (c == class_)
            true[c] += w * (c == class_)
    losses = [1 - (2 * b + eps) / (p + t + eps) for b, p, t in zip(both, predicted, true, strict=True) if t > 0]
    return sum(losses) / len(losses) if losses else 0.0
