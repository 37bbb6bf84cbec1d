"""What a loss promises about distances between embeddings once it is zero; groupers compare their radius with it."""

from typing import Literal, NamedTuple


class EmbeddingMargins(NamedTuple):
    """Distances that a loss of zero guarantees.

    distance: 'norm' for a norm of the difference, 'cosine' for 1 - cos of the angle.
    within: the largest distance of a pixel to the mean of its instance.
    between: the smallest distance between the means of two instances.
    """

    distance: Literal['norm', 'cosine']
    within: float
    between: float
