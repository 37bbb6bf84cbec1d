from .silhouette_scorer import SilhouetteScorer, silhouette

__all__ = ['SilhouetteScorer', 'silhouette']
