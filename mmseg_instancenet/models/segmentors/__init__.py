from .embedding_segmentor import EmbeddingSegmentor, EmbeddingTTAModel
from .instances import labels_to_boxes, labels_to_rle, make_instances

__all__ = ['EmbeddingSegmentor', 'EmbeddingTTAModel', 'labels_to_boxes', 'labels_to_rle', 'make_instances']
