"""Alternatives to the functions of the package: the textbook form of each, in plain code.

Shapes: N pixels, D values of the embedding, B rows of a block, K instances, S seeds. Maps are (images, D, H, W) and
(images, H, W).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MATRIX_BYTES = 1 << 32
"""Matrices of pixels by pixels are made whole up to this size (all of them that live at once), else in blocks of rows."""


class LossTerms(NamedTuple):
    """Terms of the discriminative loss, averaged over the images."""

    pull: Tensor
    push: Tensor
    regularization: Tensor


def dense_iteration(x_ND: Tensor, concentration: float, max_bytes: int = MATRIX_BYTES) -> Tensor:
    r"""One iteration of blurring mean shift on unit vectors, :math:`\mathrm{softmax}(\delta X X^T) X`, scaled to unit
    length: (N, D).

    The matrix of pixels by pixels is made, in blocks of rows where two of them would exceed ``max_bytes``.

    Example:
        >>> dense_iteration(torch.eye(2), concentration=1000.0)
        tensor([[1., 0.],
                [0., 1.]])
    """
    rows = max(1, max_bytes // (2 * x_ND.element_size() * len(x_ND)))
    mean = [torch.softmax(concentration * x_BD @ x_ND.T, dim=1) @ x_ND for x_BD in x_ND.split(rows)]
    return F.normalize(torch.cat(mean), dim=1)


def attention_iteration(x_ND: Tensor, concentration: float) -> Tensor:
    """As :func:`dense_iteration`, by PyTorch's fused attention: (N, D).

    No alternative, but the way to an exact result where the matrix is too large.

    Example:
        >>> attention_iteration(torch.eye(4), concentration=1000.0)[0]
        tensor([1., 0., 0., 0.])
    """
    x_11ND = x_ND[None, None]
    return F.normalize(F.scaled_dot_product_attention(x_11ND, x_11ND, x_11ND, scale=concentration)[0, 0], dim=1)


def components_within(x_ND: Tensor, radius: float, max_bytes: int = MATRIX_BYTES) -> Tensor:
    """Connected components of the graph that joins points at most ``radius`` apart, by flooding: (N,) int64, 1, 2, ..

    Example:
        >>> components_within(torch.tensor([[0.0], [5.0], [0.4], [0.8]]), radius=0.5)
        tensor([1, 2, 1, 1])
    """
    label_N = torch.zeros(len(x_ND), dtype=torch.long, device=x_ND.device)
    left = torch.arange(len(x_ND), device=x_ND.device)
    group = 0
    while len(left):
        group += 1
        front, left = left[:1], left[1:]
        label_N[front] = group
        while len(front) and len(left):
            near = torch.zeros(len(left), dtype=torch.bool, device=x_ND.device)
            for block in front.split(max(1, max_bytes // (2 * x_ND.element_size() * len(left)))):
                near |= (torch.cdist(x_ND[left], x_ND[block]) <= radius).any(1)
            front, left = left[near], left[~near]
            label_N[front] = group
    return label_N


def dense_grouping(x_ND: Tensor, concentration: float, loops: int) -> Tensor:
    """Dense mean shift, then components within the bandwidth: (N,) int64."""
    for _ in range(loops):
        x_ND = dense_iteration(x_ND, concentration)
    return components_within(x_ND, concentration**-0.5)


def exact_grouping(x_ND: Tensor, concentration: float, loops: int = 20) -> Tensor:
    """Exact reference for approximations: ``loops`` full iterations, then components within the bandwidth: (N,) int64."""
    x_ND = F.normalize(x_ND, dim=1)
    for _ in range(loops):
        x_ND = attention_iteration(x_ND, concentration)
    return components_within(x_ND, concentration**-0.5)


def hill_climb(x_ND: Tensor, concentration: float, num_seeds: int = 100, loops: int = 10) -> Tensor:
    """Groups by seeds that climb the density, as in "unseen object clustering" (Xie et al. 2021).

    Seeds are taken one after the other, each the point furthest from those before; they climb by mean shift against all
    points, which stay; seeds within the bandwidth of each other are one; every point joins the nearest seed. Instances
    beyond ``num_seeds`` are merged without a word.

    Args:
        x_ND: (N, D) unit vectors.
        concentration: of the kernel.
        num_seeds, loops: 100 and 10 are the authors'.

    Returns:
        (N,) int64, 1, 2, ..

    Example:
        >>> hill_climb(torch.eye(3)[[0, 0, 1]], concentration=100.0, num_seeds=2)
        tensor([1, 1, 2])
    """
    seeds = [0]
    cosine_N = x_ND @ x_ND[0]
    for _ in range(min(num_seeds, len(x_ND)) - 1):
        seeds.append(int(cosine_N.argmin()))
        cosine_N = torch.maximum(cosine_N, x_ND @ x_ND[seeds[-1]])
    seed_SD = x_ND[seeds]
    for _ in range(loops):
        seed_SD = F.normalize(torch.softmax(concentration * seed_SD @ x_ND.T, dim=1) @ x_ND, dim=1)
    return components_within(seed_SD, concentration**-0.5)[(x_ND @ seed_SD.T).argmax(1)]


def loop_discriminative_terms(
    embeddings_NDHW: Tensor,
    instance_map_NHW: Tensor,
    class_map_NHW: Tensor,
    pull_margin: float = 0.2,
    push_margin: float = 3.0,
) -> LossTerms:
    """``discriminative_terms`` by loops over images, classes and instances, with a mask of the image for each instance.

    As public versions of De Brabandere et al. (2017) do; the push term is vectorised over the pairs, as there.

    Example:
        >>> embeddings = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])
        >>> ids, classes = torch.tensor([[[1, 1, 2, 2]]]), torch.tensor([[[5, 5, 5, 5]]])
        >>> loop_discriminative_terms(embeddings, ids, classes).push
        tensor(5.)
    """
    pull = push = regularization = embeddings_NDHW.sum() * 0
    for x_DHW, instance_HW, class_HW in zip(embeddings_NDHW, instance_map_NHW, class_map_NHW, strict=True):
        for class_ in class_HW.unique().tolist():
            ids = [id_ for id_ in instance_HW[class_HW == class_].unique().tolist() if id_ > 0]
            if class_ == 255 or not ids:
                continue
            means = []
            for id_ in ids:
                x_DP = x_DHW[:, (instance_HW == id_) & (class_HW == class_)]
                mean_D1 = x_DP.mean(1, keepdim=True)
                pull = pull + ((x_DP - mean_D1).norm(dim=0) - pull_margin).clamp(min=0).mean() / len(ids)
                regularization = regularization + mean_D1.norm() / len(ids)
                means.append(mean_D1[:, 0])
            if len(ids) > 1:
                hinge_P = (2 * push_margin - torch.pdist(torch.stack(means))).clamp(min=0)
                push = push + hinge_P.mean()
    return LossTerms(*(term / len(embeddings_NDHW) for term in (pull, push, regularization)))


def dense_pair_terms(embeddings_NDHW: Tensor, instance_map_NHW: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """``spherical_pair_terms`` (paper's variant, every pixel labelled) computed with matrices of pixels by pixels.

    Example:
        >>> embeddings = torch.tensor([[[[1.0, 1.0, 1.0]], [[0.0, 0.0, 1.0]]]])
        >>> dense_pair_terms(embeddings, torch.tensor([[[1, 1, 2]]]), margin=0.5)
        (tensor(0.), tensor(0.2357))
    """
    positive = negative = embeddings_NDHW.sum() * 0
    for x_DHW, instance_HW in zip(embeddings_NDHW, instance_map_NHW, strict=True):
        unit_PD = F.normalize(x_DHW.flatten(1).T, dim=1)
        _, instance_P, size_K = torch.unique(instance_HW, return_inverse=True, return_counts=True)
        instance_P = instance_P.flatten()
        weight_P = 1 / size_K[instance_P].to(unit_PD)
        similarity_PP = (1 + unit_PD @ unit_PD.T) / 2
        weight_PP = weight_P[:, None] * weight_P[None, :] / len(unit_PD)
        same_PP = instance_P[:, None] == instance_P[None, :]
        positive = positive + (weight_PP * torch.where(same_PP, 1 - similarity_PP, 0)).sum()
        negative = negative + (weight_PP * torch.where(same_PP, 0, (similarity_PP - margin).clamp(min=0))).sum()
    return positive / len(embeddings_NDHW), negative / len(embeddings_NDHW)
