from .inference import init_model, segment_picture
from .shipped import example_image, shipped_models

__all__ = ['example_image', 'init_model', 'segment_picture', 'shipped_models']
