from .boundary import BoundarySegmentor
from .embedding import EmbeddingSegmentor
from .proposal import ProposalSegmentor
from .tta import EmbeddingTTAModel

__all__ = ['BoundarySegmentor', 'EmbeddingSegmentor', 'EmbeddingTTAModel', 'ProposalSegmentor']
