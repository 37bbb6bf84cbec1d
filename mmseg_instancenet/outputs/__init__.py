"""The instances of an image in arrays, and in the files that other programs read."""

from .instance_result import InstanceResult

__all__ = ['InstanceResult']
