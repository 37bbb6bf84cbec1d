"""InstanceNet's pull and push loss (Gao 2020)."""

from typing import Any, NamedTuple

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...structures import EmbeddingMargins, check_embeddings, zero_loss
from .instance_numbering import BatchInstances, EmbeddingLoss, box_gaps, instance_boxes, number_instances


class DiscriminativeTerms(NamedTuple):
    """The three terms, each a scalar: summed over the classes of an image, averaged over the images."""

    pull: Tensor
    push: Tensor
    regularization: Tensor


def discriminative_terms(
    embeddings_NDHW: Tensor,
    instance_map_NHW: Tensor,
    class_map_NHW: Tensor | None = None,
    *,
    pull_margin: float = 0.2,
    push_margin: float = 3.0,
    norm: float = 2,
    squared: bool = False,
    class_agnostic: bool = False,
    background_is_instance: bool = False,
    push_distance: float | None = None,
    instances: BatchInstances | None = None,
) -> DiscriminativeTerms:
    r"""Pull, push and regularisation terms of InstanceNet (Gao 2020, equations 1, 2, 3 and the sum of 5).

    For one class with K instances, instance k having the pixels S_k and the mean embedding mu_k:

    .. math::
        L_{pull} &= \frac1K \sum_k \frac1{|S_k|} \sum_{i \in S_k} [\|\mu_k - x_i\|_n - d_{pull}]_+ \\
        L_{push} &= \frac1{K(K-1)} \sum_{k \neq l} [2 d_{push} - \|\mu_k - \mu_l\|_n]_+ \\
        L_{reg} &= \frac1K \sum_k \|\mu_k\|_n

    Each is summed over the classes of an image and averaged over the images of the batch. Push is 0 for K < 2; a
    image without instances gives 0; the result always depends on ``embeddings_NDHW``, so that every parameter
    receives a gradient. Computed in float32 (float64 for float64 input), also under autocast.

    Peak memory above the inputs, backward pass included, is linear in the pixels (measured at D = 4, every pixel
    labelled: 5.6 times the embeddings) plus, for every two instances of one class in one image, some 3 D + 5 values (20
    more with ``push_distance``); nothing of size instances x pixels is made.

    Args:
        embeddings_NDHW: (N, D, H, W) floating point.
        instance_map_NHW: (N, H, W) integers; 0 = background, 1 and above = instances with any gaps, -1 = ignore.
        class_map_NHW: (N, H, W) integers; 255 = ignore. Without it all instances are of one class, and
            ``class_agnostic`` must be True.
        pull_margin: d_pull, in units of the embedding.
        push_margin: d_push, in units of the embedding.
        norm: order n of the norm, at least 1; ``float('inf')`` is allowed.
        squared: square the two hinges, as De Brabandere et al. (2017) do.
        class_agnostic: treat all classes as one, so that all instances of an image are pushed apart.
        background_is_instance: count the background as an instance (of class 0).
        push_distance: push only pairs whose bounding boxes lie at most this many pixels of the embedding map apart.
            The mean is then taken over these pairs. ``None`` pushes all pairs, as the paper.
        instances: of these maps, numbered by these settings, for a caller that evaluates the loss several times on them;
            counted here unless given.

    Raises:
        ValueError: if shapes or settings do not fit, or an embedding is not finite.
        TypeError: if an argument is no tensor, or the class map is missing and ``class_agnostic`` is False.

    Example:
        >>> embeddings = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])  # one image, D = 1, 1 x 4 pixels
        >>> ids, classes = torch.tensor([[[1, 1, 2, 2]]]), torch.tensor([[[5, 5, 5, 5]]])
        >>> discriminative_terms(embeddings, ids, classes).push  # 2 * 3 - |0 - 1|
        tensor(5.)
    """
    check_embeddings(embeddings_NDHW, instance_map_NHW)
    num_images, dims, _, _ = embeddings_NDHW.shape
    with torch.autocast(device_type=embeddings_NDHW.device.type, enabled=False):
        if embeddings_NDHW.dtype != torch.float64:
            embeddings_NDHW = embeddings_NDHW.float()
        # A sum over every embedding costs little and keeps ignored pixels in the graph.
        zero = zero_loss(embeddings_NDHW)
        if instances is None:
            instances = number_instances(instance_map_NHW, class_map_NHW, background_is_instance, class_agnostic)
        count = len(instances.class_K)
        if count == 0:
            return DiscriminativeTerms(zero, zero, zero)

        x_PD = embeddings_NDHW.movedim(1, 3).reshape(-1, dims).index_select(0, instances.pixel_P)
        size_K = instances.size_K.to(x_PD)
        # Along the pixels' axis torch sums several times as fast as it adds up rows, in the backward pass of a gather too.
        mu_DK = x_PD.new_zeros(dims, count).index_add(1, instances.instance_P, x_PD.T) / size_K
        mu_KD = mu_DK.T

        # Weight 1 / K_c of each instance, K_c the number of instances of its class in its image, which are adjacent.
        class_span = int(instances.class_K.max()) + 1
        _, group_K, size_G = torch.unique_consecutive(
            instances.image_K * class_span + instances.class_K, return_inverse=True, return_counts=True
        )
        weight_K = 1 / size_G[group_K].to(x_PD)

        distance_P = torch.linalg.vector_norm(x_PD - mu_DK.index_select(1, instances.instance_P).T, ord=norm, dim=1)
        pull_P = _hinge(distance_P - pull_margin, squared)
        pull = pull_P @ (weight_K / size_K).index_select(0, instances.instance_P)
        regularization = torch.linalg.vector_norm(mu_KD, ord=norm, dim=1) @ weight_K
        box_K4 = None if push_distance is None else instance_boxes(instances, *instance_map_NHW.shape[1:])
        push = _push(mu_KD, group_K, size_G, 2 * push_margin, norm, squared, box_K4, push_distance)
        return DiscriminativeTerms(
            pull / num_images + zero, push / num_images + zero, regularization / num_images + zero
        )


def _hinge(x: Tensor, squared: bool) -> Tensor:
    x = x.clamp(min=0)
    return x.square() if squared else x


def _push(
    mu_KD: Tensor,
    group_K: Tensor,
    size_G: Tensor,
    margin: float,
    norm: float,
    squared: bool,
    box_K4: Tensor | None,
    push_distance: float | None,
) -> Tensor:
    """The push term, equation (2), summed over the classes of all images: memory D times the pairs.

    group_K: the class of each instance in its image, numbered 0, 1, .. over the batch, ascending.
    size_G: its number of instances.
    """
    # Each instance k with those of its group that come after it.
    index_K = torch.arange(len(group_K), device=group_K.device)
    after_K = size_G.cumsum(0)[group_K] - 1 - index_K
    first_Q = index_K.repeat_interleave(after_K)
    begin_K = after_K.cumsum(0) - after_K
    second_Q = first_Q + 1 + torch.arange(len(first_Q), device=group_K.device) - begin_K[first_Q]
    if push_distance is not None and box_K4 is not None:
        near_Q = box_gaps(box_K4[first_Q][:, None], box_K4[second_Q][:, None])[:, 0, 0] <= push_distance
        first_Q, second_Q = first_Q[near_Q], second_Q[near_Q]
    difference_QD = mu_KD.index_select(0, first_Q) - mu_KD.index_select(0, second_Q)
    hinge_Q = _hinge(margin - torch.linalg.vector_norm(difference_QD, ord=norm, dim=1), squared)
    group_Q = group_K[first_Q]
    pairs_G = torch.bincount(group_Q, minlength=len(size_G)).to(mu_KD)
    return hinge_Q @ (1 / pairs_G).index_select(0, group_Q)


@MODELS.register_module()
class DiscriminativeLoss(EmbeddingLoss):
    """InstanceNet's loss (Gao 2020, equations 1 to 5): ``alpha`` pull + ``beta`` push + ``gamma`` regularisation.

    See :func:`discriminative_terms` for the formulas, the label maps, memory and errors. The defaults are the paper's.

    Args:
        alpha, beta, gamma: weights of the pull, push and regularisation terms, equation (4).
        pull_margin, push_margin, norm, squared, class_agnostic, background_is_instance, push_distance: as in
            :func:`discriminative_terms`.
        loss_weight: factor on the whole.
        loss_name: key of the total; it has to contain ``loss`` to be trained on.

    Example:
        >>> loss = DiscriminativeLoss()
        >>> embeddings = torch.zeros(1, 4, 8, 8, requires_grad=True)
        >>> ids = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> ids[:, :, 4:], ids[:, :4, :4] = 1, 9
        >>> loss(embeddings, ids, (ids > 0).long())['loss_embedding']
        tensor(6., grad_fn=<MulBackward0>)
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 0.001,
        pull_margin: float = 0.2,
        push_margin: float = 3.0,
        norm: float = 2,
        squared: bool = False,
        class_agnostic: bool = False,
        background_is_instance: bool = False,
        push_distance: float | None = None,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_embedding',
    ) -> None:
        super().__init__(class_agnostic, background_is_instance, loss_weight, loss_name)
        for name, value in {
            'alpha': alpha,
            'beta': beta,
            'gamma': gamma,
            'pull_margin': pull_margin,
            'push_margin': push_margin,
        }.items():
            if value < 0:
                raise ValueError(f'expected {name} >= 0, got {value}')
        if push_distance is not None and push_distance < 0:
            raise ValueError(f'expected push_distance >= 0 pixels or None for all pairs, got {push_distance}')
        if norm < 1:
            raise ValueError(f'expected a norm of order >= 1, got {norm}')
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.pull_margin, self.push_margin = pull_margin, push_margin
        self.norm = norm
        self.push_distance = push_distance
        self.settings: dict[str, Any] = {
            'pull_margin': pull_margin,
            'push_margin': push_margin,
            'norm': norm,
            'squared': squared,
            'class_agnostic': class_agnostic,
            'background_is_instance': background_is_instance,
            'push_distance': push_distance,
        }

    def margins(self, embedding_dims: int) -> EmbeddingMargins:
        """Distances that a loss of zero guarantees, for any number of dimensions."""
        return EmbeddingMargins('norm', within=self.pull_margin, between=2 * self.push_margin)

    def forward(
        self,
        embeddings_NDHW: Tensor,
        instance_map_NHW: Tensor,
        class_map_NHW: Tensor | None = None,
        instances: BatchInstances | None = None,
    ) -> dict[str, Tensor]:
        """Returns the total under ``loss_name`` and the terms as ``pull``, ``push`` and ``regularization``.

        The terms are detached, unweighted and for the log: MMEngine sums only keys that contain ``loss``.
        ``instances`` are those of :meth:`number`, where a caller has them already.
        """
        terms = discriminative_terms(
            embeddings_NDHW, instance_map_NHW, class_map_NHW, instances=instances, **self.settings
        )
        total = self.alpha * terms.pull + self.beta * terms.push + self.gamma * terms.regularization
        return {
            self.loss_name: total * self.loss_weight,
            'pull': terms.pull.detach(),
            'push': terms.push.detach(),
            'regularization': terms.regularization.detach(),
        }
