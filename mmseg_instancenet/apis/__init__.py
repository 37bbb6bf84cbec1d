from .inference import init_model, segment_image
from .shipped import example_image, shipped_models

__all__ = ['example_image', 'init_model', 'segment_image', 'shipped_models']
