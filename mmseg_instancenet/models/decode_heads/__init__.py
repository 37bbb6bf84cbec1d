from .boundary_head import BoundaryHead
from .embedding_head import EmbeddingFCNHead, EmbeddingHead, EmbeddingMixin, EmbeddingUPerHead

__all__ = ['BoundaryHead', 'EmbeddingFCNHead', 'EmbeddingHead', 'EmbeddingMixin', 'EmbeddingUPerHead']
