"""Error for a loss on embeddings that a config sets as the class loss."""

from torch import nn


def refuse_class_scores(loss: nn.Module, args: tuple, kwargs: dict) -> None:
    """Forward pre-hook of losses on embeddings: raises an error if a decode head calls one as its ``loss_decode``.

    mmseg's heads give a class loss scores, labels, ``weight`` and ``ignore_index``, and no instance map.

    Raises:
        TypeError: if it is called so.
    """
    if kwargs.keys() & {'weight', 'ignore_index'}:
        raise TypeError(
            f'{type(loss).__name__} is a loss on embeddings and was called as a loss on class scores: in the config it belongs '
            'into embedding=dict(loss=..) of EmbeddingSegmentor or loss_embedding of a head with an embedding branch, not into '
            'loss_decode, which takes a class loss such as CrossEntropyLoss'
        )
