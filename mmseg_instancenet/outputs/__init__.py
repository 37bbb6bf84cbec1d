"""The instances of an image in arrays, and in the files that other programs read."""

from .instance_result import InstanceResult
from .outlines import mask_outlines

__all__ = ['InstanceResult', 'mask_outlines']
