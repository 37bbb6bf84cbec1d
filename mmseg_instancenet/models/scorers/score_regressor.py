"""Scores of instances by a linear regressor on shape and agreement with the class map."""

from typing import Any, NamedTuple

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...structures import split_components


class ClassVotes(NamedTuple):
    """Majority votes for the classes of K groups.

    ``size_K``: pixels of the group; ``class_K``: its most frequent class; ``share_K``: share of pixels of that class;
    ``agreement_K``: mean probability of that class, pixels of other classes counting zero.
    """

    size_K: Tensor
    class_K: Tensor
    share_K: Tensor
    agreement_K: Tensor


def vote_classes(
    labels_HW: Tensor, class_HW: Tensor, probability_HW: Tensor, count: int, num_classes: int
) -> ClassVotes:
    r"""Determines the class of each group by majority vote of its pixels.

    .. math:: a = \frac1{|S|} \sum_{i \in S, c_i = c} p_i

    is the agreement of a group S whose class is c, with c_i the class map and p_i its probability. Among equal numbers of
    votes the lowest class wins.

    Args:
        labels_HW: (H, W) groups 1 .. count, 0 = none; a group without a pixel has class 0 and NaN shares.
        class_HW: (H, W) classes, 0 = background.
        probability_HW: (H, W) float, of the class that the class map names.
        count: K, number of groups.
        num_classes: background included.

    Example:
        >>> labels, classes = torch.tensor([[1, 1, 1, 1]]), torch.tensor([[2, 2, 1, 2]])
        >>> vote_classes(labels, classes, torch.full((1, 4), 0.8), count=1, num_classes=3)
        ClassVotes(size_K=tensor([4]), class_K=tensor([2]), share_K=tensor([0.7500]), agreement_K=tensor([0.6000]))
    """
    inside_HW = labels_HW > 0
    pair_P = (labels_HW[inside_HW] - 1) * num_classes + class_HW[inside_HW]
    pixels_KC = torch.bincount(pair_P, minlength=count * num_classes).reshape(count, num_classes)
    sum_KC = torch.zeros(count * num_classes, device=labels_HW.device).index_add_(0, pair_P, probability_HW[inside_HW])
    class_K1 = pixels_KC.argmax(1, keepdim=True)
    size_K = pixels_KC.sum(1)
    of_class = (
        values_KC.gather(1, class_K1).squeeze(1) / size_K for values_KC in (pixels_KC, sum_KC.view_as(pixels_KC))
    )
    return ClassVotes(size_K, class_K1.squeeze(1), *of_class)


FEATURES = ('score', 'group_score', 'agreement', 'class_share', 'area', 'side', 'connectedness', 'extent', 'border')
"""Features of a :class:`ScoreRegressor`, in the order of its weights; see :func:`instance_features`."""


def simple_score(group_score_K: Tensor, votes: ClassVotes) -> Tensor:
    """Score of instances without a regressor, (K,): score of the group in the embedding times agreement with the class
    map."""
    return group_score_K * votes.agreement_K


def instance_features(labels_HW: Tensor, box_K4: Tensor, group_score_K: Tensor, votes: ClassVotes) -> Tensor:
    """Features of the instances of an image, each from 0 to 1: shape, and agreement with the class map.

    - ``score``: :func:`simple_score`
    - ``group_score``: of the group in the embedding
    - ``agreement``: mean probability of its class, pixels of other classes counting zero
    - ``class_share``: share of its pixels that have its class
    - ``area``: share of the image that it covers
    - ``side``: the square root of that; with both, instances that are too small or too large can score low
    - ``connectedness``: share of its largest 8-connected component
    - ``extent``: share of its box that it covers
    - ``border``: 1 if it touches the border of the image, else 0

    Args:
        labels_HW: (H, W) groups 1 .. K without gaps, 0 = none.
        box_K4: (K, 4) boxes (x1, y1, x2, y2), right and lower edge exclusive.
        group_score_K: (K,) float.
        votes: of the groups.

    Returns:
        (K, F) float32, columns as in :data:`FEATURES`.

    Example:
        >>> labels, half = torch.tensor([[1, 1, 0, 1]]), torch.full((1, 4), 0.5)
        >>> votes = vote_classes(labels, labels, half, count=1, num_classes=2)
        >>> instance_features(labels, torch.tensor([[0.0, 0.0, 4.0, 1.0]]), torch.tensor([0.8]), votes)
        tensor([[0.4000, 0.8000, 0.5000, 1.0000, 0.7500, 0.8660, 0.6667, 0.7500, 1.0000]])
    """
    height, width = labels_HW.shape
    size_K = votes.size_K
    area_K = size_K / (height * width)
    left_K, top_K, right_K, bottom_K = box_K4.unbind(1)
    features = {
        'score': simple_score(group_score_K, votes),
        'group_score': group_score_K,
        'agreement': votes.agreement_K,
        'class_share': votes.share_K,
        'area': area_K,
        'side': area_K.sqrt(),
        'connectedness': _largest_components(labels_HW, len(box_K4)) / size_K,
        'extent': size_K / ((right_K - left_K) * (bottom_K - top_K)),
        'border': (left_K == 0) | (top_K == 0) | (right_K == width) | (bottom_K == height),
    }
    return torch.stack([features[name].float() for name in FEATURES], dim=1)


def _largest_components(labels_HW: Tensor, count: int) -> Tensor:
    """Number of pixels of the largest connected component of each group, (K,)."""
    part_P, label_P = split_components(labels_HW).reshape(-1), labels_HW.reshape(-1)
    size_J = torch.bincount(part_P)
    label_J = torch.zeros_like(size_J).index_put_((part_P,), label_P)
    largest_K = size_J.new_zeros(count + 1).scatter_reduce_(0, label_J, size_J, reduce='amax')
    return largest_K[1:]


def fit_ridge(features_MF: Tensor, target_M: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    r"""Weights w and bias b of the ridge regression that minimises

    .. math:: \frac1M \sum_m (y_m - w \cdot x_m - b)^2 + \lambda \sum_f (\sigma_f w_f)^2

    with :math:`\sigma_f` the standard deviation of feature f: the penalty does not depend on the features' units. A
    feature that is the same everywhere gets the weight 0. Computed in float64, on the CPU.

    Args:
        features_MF: (M, F), M >= 2 observations.
        target_M: (M,).
        ridge: lambda >= 0; above 0 it also decides between features that follow from one another.

    Returns:
        (F,) and () float64, on the CPU.

    Raises:
        ValueError: if shapes do not fit, a value is not finite or ridge is negative.

    Example:
        >>> fit_ridge(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0, 3.0, 5.0]), ridge=0)
        (tensor([2.], dtype=torch.float64), tensor(1., dtype=torch.float64))
    """
    if features_MF.dim() != 2 or target_M.shape != features_MF.shape[:1] or len(target_M) < 2:
        raise ValueError(
            f'expected features (M, F) and a target (M,) with M >= 2, got {tuple(features_MF.shape)} and '
            f'{tuple(target_M.shape)}'
        )
    if not ridge >= 0:
        raise ValueError(f'expected ridge >= 0, got {ridge}')
    # On a GPU torch's least squares is for independent features only.
    x_MF, y_M = features_MF.double().cpu(), target_M.double().cpu()
    if not (x_MF.isfinite().all() and y_M.isfinite().all()):
        raise ValueError('expected finite features and targets, got NaN or infinity')
    mean_F, sigma_F = x_MF.mean(0), x_MF.std(0, correction=0)
    varies_F = sigma_F > 1e-6  # equal float32 features differ by their rounding
    z_MV = ((x_MF - mean_F) / sigma_F)[:, varies_F]
    # Least squares with an additional row for each feature, whose target is a weight of 0: the condition number is not squared.
    penalty_VV = torch.eye(z_MV.shape[1], dtype=z_MV.dtype) * (ridge * len(y_M)) ** 0.5
    rows_RV, y_R = torch.cat([z_MV, penalty_VV]), torch.cat([y_M - y_M.mean(), y_M.new_zeros(z_MV.shape[1])])
    weight_F = torch.zeros_like(mean_F)
    weight_F[varies_F] = torch.linalg.lstsq(rows_RV, y_R[:, None]).solution.squeeze(1) / sigma_F[varies_F]
    return weight_F, y_M.mean() - mean_F @ weight_F


@MODELS.register_module()
class ScoreRegressor(nn.Module):
    """Scores instances by a linear regressor on :func:`instance_features`, fitted to their IoU with the true object.

    ``tools/fit_scorer.py`` fits it on predictions for the training set and stores it in the checkpoint, in the buffers
    ``instance_scorer.weight`` (F,) and ``instance_scorer.bias``. Until then, and with a checkpoint that lacks them, all weights
    are 0, and the score is :func:`simple_score`. A fitted score can lie a little outside 0 .. 1; it is not clipped, since equal
    scores have no order.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('weight', torch.zeros(len(FEATURES)))
        self.register_buffer('bias', torch.zeros(()))

    @property
    def fitted(self) -> bool:
        return bool(self.weight.any())

    def forward(self, labels_HW: Tensor, box_K4: Tensor, group_score_K: Tensor, votes: ClassVotes) -> Tensor:
        """Score of each instance, (K,); for the arguments see :func:`instance_features`."""
        if not self.fitted:
            return simple_score(group_score_K, votes)
        return self.score(instance_features(labels_HW, box_K4, group_score_K, votes))

    def score(self, features_KF: Tensor) -> Tensor:
        """Score of each row of features, (K,)."""
        return features_KF @ self.weight + self.bias

    def fit(self, features_MF: Tensor, target_M: Tensor, ridge: float = 1e-3) -> None:
        """Sets weights and bias to the solution of :func:`fit_ridge`."""
        weight_F, bias = fit_ridge(features_MF, target_M, ridge)
        self.weight.copy_(weight_F)
        self.bias.copy_(bias)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # A checkpoint without a regressor is valid: the weights stay, and nothing is reported as missing.
        if any(f'{prefix}{name}' in state_dict for name in ('weight', 'bias')):
            super()._load_from_state_dict(state_dict, prefix, *args)
