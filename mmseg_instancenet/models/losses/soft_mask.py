"""Loss that learns embeddings and the bandwidth of their clusters by the IoU of soft masks (Neven et al., CVPR 2019).

Shapes: N images, H W map, K instances and P labelled pixels of one image, S pixels of instances among them, Q pairs of an
instance and a pixel, B instances and R pairs of one block. Of the D values of a pixel the first E = D - 2 are its embedding.
"""

import math
from typing import NamedTuple

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...structures import IGNORED_CLASS, IGNORED_INSTANCE, bandwidth_precision, check_embeddings, zero_loss
from .instance_numbering import class_map_or_one_class, number_instances
from .misplaced import refuse_class_scores

_NEGLIGIBLE = 5e-4
"""Pixels of others at which a soft mask is below this are left out of its hinge. That lowers the hinge by at most twice as much:
it is the Lovasz extension of a set function between 0 and 1, and the errors of these pixels are below twice this value."""

_BLOCK = 1 << 22
"""Distances between instances and pixels are computed in blocks of this many values: 16 MB."""


class SoftMaskTerms(NamedTuple):
    """The three terms, each a scalar, averaged over the images."""

    overlap: Tensor
    spread: Tensor
    seed: Tensor


def soft_mask_terms(
    embeddings_NDHW: Tensor,
    instance_map_NHW: Tensor,
    class_map_NHW: Tensor | None = None,
    *,
    foreground_weight: float = 10.0,
) -> SoftMaskTerms:
    r"""Overlap, spread and seed terms of Neven et al. (2019), with one bandwidth for all directions.

    A pixel i has an embedding :math:`e_i` (all but the last two of its D values), a bandwidth :math:`b_i = \log(1 / 2\sigma^2)`
    and the logit of a seed :math:`z_i`. Instance k with the pixels :math:`S_k`, their means :math:`C_k` of the embedding and
    :math:`B_k` of the bandwidth, has the soft mask

    .. math:: \phi_k(i) = \exp(-\|e_i - C_k\|^2 \exp B_k)

    and with K instances in an image of P labelled pixels

    .. math::
        L_{overlap} &= \frac1K \sum_k \mathrm{LovaszHinge}(2 \phi_k - 1, S_k) \\
        L_{spread} &= \frac1K \sum_k \frac1{|S_k|} \sum_{i \in S_k} (b_i - B_k)^2 \\
        L_{seed} &= \frac1P \Big( w \sum_k \sum_{i \in S_k} (\mathrm{sigmoid}(z_i) - \phi_k(i))^2
                    + \sum_{i \notin \cup S_k} \mathrm{sigmoid}(z_i)^2 \Big)

    The hinge runs over all labelled pixels of the image, the background included: a pixel belongs to the mask where
    :math:`\phi_k > 1/2`, and the hinge is an upper bound of one minus the IoU of mask and instance (Yu and Blaschko 2015; Berman
    et al. 2018). It moves embeddings, centers and bandwidths; in the seed term :math:`\phi` receives no gradient.

    Each term is averaged over the images of the batch. An image without instances has the seed term alone; one without labelled
    pixels counts with 0. All classes are treated as one, so that an id is one instance whatever the classes of its pixels. The
    result always depends on ``embeddings_NDHW``, so that every parameter receives a gradient. Computed in float32 (float64 for
    float64 input), also under autocast.

    The paper's spread term compares sigma itself. The authors' code compares logarithms, as here, but of a network that predicts
    b / 10: its spread term is a hundredth of this one. It also divides the seed term by all pixels, ignored ones included.

    Peak memory above the inputs, backward pass included (measured at D = 4): 105 bytes for each pair of an instance and a pixel
    that is its own or at which its mask exceeds 0.0005, 6 times the embeddings, and some blocks of 16 MB. Where bandwidths are
    far too low, every mask covers the image, and there are K x P pairs.

    Args:
        embeddings_NDHW: (N, D, H, W) floating point, D >= 3: embedding, bandwidth, logit of the seed.
        instance_map_NHW: (N, H, W) integers; 0 = background, 1 and above = instances with any gaps, -1 = ignore.
        class_map_NHW: (N, H, W) integers, of which only 255 = ignore is used; may be left out.
        foreground_weight: w.

    Raises:
        ValueError: if shapes do not fit, or a value is not finite.
        TypeError: if an argument is no tensor.

    Example:
        >>> embeddings = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]]).view(1, 3, 1, 4)
        >>> ids = torch.tensor([[[1, 1, 2, 2]]])
        >>> soft_mask_terms(embeddings, ids).overlap
        tensor(0.)
    """
    check_embeddings(embeddings_NDHW, instance_map_NHW)
    class_map_NHW = class_map_or_one_class(instance_map_NHW, class_map_NHW, class_agnostic=True)
    num_images, dims, _, _ = embeddings_NDHW.shape
    if dims < 3:
        raise ValueError(
            f'expected at least three values a pixel, embedding, bandwidth and seed, got embedding_dims={dims}'
        )
    with torch.autocast(device_type=embeddings_NDHW.device.type, enabled=False):
        if embeddings_NDHW.dtype != torch.float64:
            embeddings_NDHW = embeddings_NDHW.float()
        # A sum over every value costs little and keeps ignored pixels in the graph.
        zero = zero_loss(embeddings_NDHW)
        instances = number_instances(instance_map_NHW, class_map_NHW, class_agnostic=True)
        instance_NHW = torch.full(instance_map_NHW.shape, -1, device=embeddings_NDHW.device)
        instance_NHW.view(-1)[instances.pixel_P] = instances.instance_P
        labelled_NHW = (instance_map_NHW != IGNORED_INSTANCE) & (class_map_NHW != IGNORED_CLASS)
        terms = [
            _terms_of_image(x_DHW[:, labelled_HW], instance_HW[labelled_HW], foreground_weight)
            for x_DHW, instance_HW, labelled_HW in zip(embeddings_NDHW, instance_NHW, labelled_NHW, strict=True)
            if labelled_HW.any()
        ]
        if not terms:
            return SoftMaskTerms(zero, zero, zero)
        return SoftMaskTerms(*(sum(of_images) / num_images + zero for of_images in zip(*terms, strict=True)))


def _terms_of_image(x_DP: Tensor, instance_P: Tensor, foreground_weight: float) -> SoftMaskTerms:
    """The terms of one image from its labelled pixels and their instances (any integers; -1 = background)."""
    seed_P = x_DP[-1].sigmoid()
    numbers, index_P = torch.unique(instance_P, return_inverse=True)
    has_background = bool(numbers[0] == -1)
    index_P = index_P - int(has_background)  # instances 0 .. K - 1, background -1
    count = len(numbers) - int(has_background)
    if count == 0:
        zero = x_DP.new_zeros(())
        return SoftMaskTerms(zero, zero, seed_P.square().mean())
    inside_P = index_P >= 0
    own_S = index_P[inside_P]
    size_K = torch.bincount(own_S, minlength=count).to(x_DP)
    mean_DK = x_DP.new_zeros(len(x_DP), count).index_add(1, own_S, x_DP[:, inside_P]) / size_K
    center_EK, bandwidth_K = mean_DK[:-2], mean_DK[-2]

    spread_S = (x_DP[-2, inside_P] - bandwidth_K[own_S]).square()
    spread = (spread_S / size_K[own_S]).sum() / count

    precision_K = bandwidth_precision(bandwidth_K)
    pixel_Q, instance_Q = _reached_pairs(x_DP[:-2].detach(), index_P, center_EK.detach(), precision_K.detach())
    difference_EQ = x_DP[:-2].index_select(1, pixel_Q) - center_EK.index_select(1, instance_Q)
    distance_Q = difference_EQ.square().sum(0)
    mask_Q = torch.exp(-distance_Q * precision_K.index_select(0, instance_Q))
    own_Q = index_P[pixel_Q] == instance_Q
    overlap = lovasz_hinges(mask_Q, own_Q, instance_Q, size_K).sum() / count

    target_P = torch.zeros_like(seed_P).index_put_((pixel_Q[own_Q],), mask_Q[own_Q].detach())
    weight_P = torch.ones_like(seed_P).masked_fill_(inside_P, foreground_weight)
    seed = (weight_P * (seed_P - target_P).square()).mean()
    return SoftMaskTerms(overlap, spread, seed)


def _reached_pairs(x_EP: Tensor, index_P: Tensor, center_EK: Tensor, precision_K: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels and instances (Q,) of all pairs that contribute to a hinge: an instance's own pixels, and others where its
    soft mask is not negligible."""
    pixels, instances = [], []
    limit_K = -math.log(_NEGLIGIBLE) / precision_K
    for instance_B in torch.arange(center_EK.shape[1], device=x_EP.device).split(max(1, _BLOCK // x_EP.shape[1])):
        # A product of matrices would lose small distances between large coordinates, which a high bandwidth magnifies.
        distance_BP = torch.cdist(
            center_EK[:, instance_B].T, x_EP.T, compute_mode='donot_use_mm_for_euclid_dist'
        ).square_()
        counts_BP = (distance_BP < limit_K[instance_B, None]) | (index_P[None] == instance_B[:, None])
        row_R, pixel_R = counts_BP.nonzero(as_tuple=True)
        pixels.append(pixel_R)
        instances.append(instance_B[row_R])
    return torch.cat(pixels), torch.cat(instances)


def lovasz_hinges(mask_Q: Tensor, own_Q: Tensor, instance_Q: Tensor, size_K: Tensor) -> Tensor:
    r"""Lovasz hinge of each of K soft masks with the logits :math:`2 \phi - 1`, (K,) (Berman et al. 2018).

    The error of a pixel is :math:`m_i = 1 \mp (2 \phi_i - 1)`, minus for pixels of the instance, from 0 to 2. With the pixels
    in falling order of their errors, the hinge is

    .. math:: \sum_j m_j (J_j - J_{j-1}), \qquad J_j = 1 - \frac{n - o_j}{n + j - o_j}

    where n is the size of the instance and :math:`o_j` the number of its pixels among the first j: :math:`J_j` is the Jaccard
    loss if just these j pixels are wrong.

    Args:
        mask_Q: (Q,) soft masks from 0 to 1 of pairs of a pixel and an instance; pairs that are left out have the mask 0.
        own_Q: (Q,) bool, whether the pixel belongs to the instance; all of those are among the pairs.
        instance_Q: (Q,) int64, the instance of each pair, 0 .. K - 1; each has a pair.
        size_K: (K,) number of pixels of each instance, in the type of the masks.

    Example:
        >>> mask, own = torch.tensor([0.75, 0.75]), torch.tensor([True, False])  # a true positive and a false one
        >>> lovasz_hinges(mask, own, torch.tensor([0, 0]), torch.tensor([1.0]))  # 1.5 x 1/2 + 0.5 x 1/2
        tensor([1.])
    """
    error_Q = torch.where(own_Q, 2 - 2 * mask_Q, 2 * mask_Q)
    order_Q = torch.argsort(error_Q.detach(), descending=True)
    order_Q = order_Q[torch.argsort(instance_Q[order_Q], stable=True)]
    error_Q, own_Q, instance_Q = error_Q[order_Q], own_Q[order_Q], instance_Q[order_Q]
    # Cumulative counts within each instance: those over all pairs minus those before its first pair.
    first_K = torch.searchsorted(instance_Q, torch.arange(len(size_K), device=mask_Q.device))
    own_before_Q = own_Q.cumsum(0)
    start_K = (own_before_Q - own_Q.long())[first_K]
    missed_Q = (own_before_Q - start_K[instance_Q]).to(mask_Q)
    rank_Q = torch.arange(1, len(mask_Q) + 1, device=mask_Q.device) - first_K[instance_Q]
    size_Q = size_K[instance_Q]
    loss_Q = 1 - (size_Q - missed_Q) / (size_Q + rank_Q - missed_Q)
    before_Q = torch.cat([loss_Q.new_zeros(1), loss_Q[:-1]])
    before_Q[first_K] = 0
    return torch.zeros_like(size_K).index_add(0, instance_Q, error_Q * (loss_Q - before_Q))


@MODELS.register_module()
class SoftMaskLoss(nn.Module):
    """Neven et al.'s loss (2019): ``overlap_weight`` overlap + ``spread_weight`` spread + ``seed_weight`` seed term.

    See :func:`soft_mask_terms` for the formulas, the label maps, memory and errors. It goes with ``SeedGrouping`` and
    ``SeedScorer``, and with a position in the embedding (``pixels_per_unit`` of the head). It is no loss for ``RecurrentLoss``,
    which refuses it: mean shift would move bandwidths and seeds as if they were coordinates.

    Args:
        overlap_weight, spread_weight, seed_weight: weights of the terms. 1, 10 and 1 are the numbers of the authors' code, where
            the spread term is a hundredth of this one: 0.1 would weigh it as there.
        foreground_weight: weight of an instance's pixels within the seed term; 10 in the authors' code.
        loss_weight: factor on the whole.
        loss_name: key of the total; it has to contain ``loss`` to be trained on.

    Raises:
        ValueError: if a weight is negative, or ``loss_name`` lacks ``loss``.

    Example:
        >>> loss = SoftMaskLoss()
        >>> embeddings = torch.zeros(1, 4, 8, 8, requires_grad=True)
        >>> ids = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> ids[:, :, 4:] = 1
        >>> losses = loss(embeddings, ids, ids)  # every pixel lies in the mask of the one instance, which covers half of them
        >>> [round(losses[name].item(), 3) for name in ('overlap', 'spread', 'seed')]
        [1.0, 0.0, 1.375]
    """

    def __init__(
        self,
        overlap_weight: float = 1.0,
        spread_weight: float = 10.0,
        seed_weight: float = 1.0,
        foreground_weight: float = 10.0,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_embedding',
    ) -> None:
        super().__init__()
        self.register_forward_pre_hook(refuse_class_scores, with_kwargs=True)
        for name, value in {
            'overlap_weight': overlap_weight,
            'spread_weight': spread_weight,
            'seed_weight': seed_weight,
            'foreground_weight': foreground_weight,
        }.items():
            if not value >= 0:
                raise ValueError(f'expected {name} >= 0, got {value}')
        if 'loss' not in loss_name:
            raise ValueError(
                f"expected a loss_name that contains 'loss', since MMEngine trains on no others, got {loss_name!r}"
            )
        self.overlap_weight, self.spread_weight, self.seed_weight = overlap_weight, spread_weight, seed_weight
        self.foreground_weight = foreground_weight
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(
        self, embeddings_NDHW: Tensor, instance_map_NHW: Tensor, class_map_NHW: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Returns the total under ``loss_name`` and the terms as ``overlap``, ``spread`` and ``seed``.

        The terms are detached, unweighted and for the log: MMEngine sums only keys that contain ``loss``.
        """
        terms = soft_mask_terms(
            embeddings_NDHW, instance_map_NHW, class_map_NHW, foreground_weight=self.foreground_weight
        )
        total = self.overlap_weight * terms.overlap + self.spread_weight * terms.spread + self.seed_weight * terms.seed
        return {self.loss_name: self.loss_weight * total, **{k: v.detach() for k, v in terms._asdict().items()}}
