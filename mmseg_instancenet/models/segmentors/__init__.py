from .boundary_segmentor import BoundarySegmentor
from .embedding_segmentor import EmbeddingSegmentor, EmbeddingTTAModel
from .instances import labels_to_boxes, labels_to_rle, make_instances
from .proposal_segmentor import ProposalSegmentor
from .proposals import pool_proposals

__all__ = [
    'BoundarySegmentor',
    'EmbeddingSegmentor',
    'EmbeddingTTAModel',
    'ProposalSegmentor',
    'labels_to_boxes',
    'labels_to_rle',
    'make_instances',
    'pool_proposals',
]
