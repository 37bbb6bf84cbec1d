"""A line for a loss on embeddings that stands where a class loss belongs."""

from torch import nn


def refuse_class_scores(loss: nn.Module, args: tuple, kwargs: dict) -> None:
    """Stops a loss on embeddings that a decode head calls as its ``loss_decode``; a forward pre-hook of these losses.

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
