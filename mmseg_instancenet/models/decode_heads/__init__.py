from .embedding_heads import EmbeddingFCNHead, EmbeddingHead, EmbeddingUPerHead
from .embedding_mixin import EmbeddingMixin

__all__ = ['EmbeddingFCNHead', 'EmbeddingHead', 'EmbeddingMixin', 'EmbeddingUPerHead']
