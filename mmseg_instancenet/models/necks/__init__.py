from .fine_to_coarse import FineToCoarse

__all__ = ['FineToCoarse']
