from .score_regressor import ScoreRegressor, fit_ridge, instance_features, vote_classes
from .seeds import SeedScorer
from .silhouette import SilhouetteScorer, silhouette

__all__ = [
    'ScoreRegressor',
    'SeedScorer',
    'SilhouetteScorer',
    'fit_ridge',
    'instance_features',
    'silhouette',
    'vote_classes',
]
