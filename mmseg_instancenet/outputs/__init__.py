"""The instances of an image as arrays and as files for other programs."""

from .instance_result import InstanceResult

__all__ = ['InstanceResult']
