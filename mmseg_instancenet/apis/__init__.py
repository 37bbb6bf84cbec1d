from mmseg.apis import init_model

from .inference import segment_picture

__all__ = ['init_model', 'segment_picture']
