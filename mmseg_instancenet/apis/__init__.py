from .image_lists import list_images
from .inference import init_model, segment_image
from .inferencer import InstanceInferencer
from .shipped import example_image, shipped_models

__all__ = ['InstanceInferencer', 'example_image', 'init_model', 'list_images', 'segment_image', 'shipped_models']
