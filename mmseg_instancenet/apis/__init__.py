from .inference import init_model, segment_picture

__all__ = ['init_model', 'segment_picture']
