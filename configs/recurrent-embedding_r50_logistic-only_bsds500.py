# Ablation: the logistic loss from the start, without the phase that trains the embeddings.
_base_ = './recurrent-embedding_r50_bsds500.py'
custom_hooks = _base_.custom_hooks[1:]  # without the BoundaryPhaseHook
