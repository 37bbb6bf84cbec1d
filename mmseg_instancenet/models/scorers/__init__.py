from .score_regressor import ScoreRegressor, fit_ridge, instance_features
from .silhouette_scorer import SilhouetteScorer, silhouette

__all__ = ['ScoreRegressor', 'SilhouetteScorer', 'fit_ridge', 'instance_features', 'silhouette']
