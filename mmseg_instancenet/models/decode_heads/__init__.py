from .boundary_head import BoundaryHead
from .embedding_heads import EmbeddingFCNHead, EmbeddingHead, EmbeddingUPerHead
from .embedding_mixin import EmbeddingMixin

__all__ = ['BoundaryHead', 'EmbeddingFCNHead', 'EmbeddingHead', 'EmbeddingMixin', 'EmbeddingUPerHead']
