# Ablation: the logistic loss from the start, without the phase that trains the embeddings.
_base_ = './recurrent-embedding_r50_bsds500.py'
custom_hooks = [dict(type='LoadReportHook')]
